//! `vault-agent target add --update`: the hook and the choice for a target that is there already,
//! as the same line of `vault machine add --ssh` says them another time.

use anyhow::{Context as _, Result, bail};
use shared::path::SecretPath;
use toml_edit::{DocumentMut, Item, Table};

use super::contact::{self, Choice};
use super::document::{edit, hook, names, words};
use host::files;
use host::hint::hinted;
use host::term::Term;
use machine::config::{Config, Target};
use machine::paths::Paths;
use machine::render::Layout;
use machine::written::Written;

/// What is asked for now; what is not asked for stays.
pub(super) struct Change<'a> {
    pub choice: &'a Choice,
    /// The secrets, which have to be those that the target has.
    pub secrets: &'a [SecretPath],
    pub on_change: Option<&'a str>,
}

impl Change<'_> {
    /// Has a target do it.
    ///
    /// # Errors
    /// If the file would lose anything, or has another layout that it cannot give up in place.
    pub(super) fn make(
        &self,
        known: &Target,
        config: &Config,
        paths: &Paths,
        term: &Term,
    ) -> Result<()> {
        let shown = known.path.display();
        if known.secrets != self.secrets {
            bail!(hinted(
                format!("`{shown}` is a target with other secrets already"),
                "remove it first with `vault-agent target remove`"
            ));
        }
        self.refuse_layout(known, paths)?;
        let text = files::settings(&paths.config).map(|(_, text)| text);
        let text = text.with_context(|| format!("cannot read `{}`", paths.config.display()))?;
        let mut document: DocumentMut = text.parse().context("reading the configuration")?;
        let changed = table(&mut document, known)?;
        self.write(known, changed);
        let target = contact::typed(changed, &paths.config)?;
        let mut others = config.clone();
        others.targets.retain(|target| target.path != known.path);
        contact::meet(self.choice, &target, &others, paths, term)?;
        edit(&paths.config, |document| {
            self.write(known, table(document, known)?);
            Ok(())
        })
    }

    /// Refuses to turn a file that is the vault's into one with a block, or the other way round:
    /// its lines would be there twice, or its owner's be gone.
    fn refuse_layout(&self, known: &Target, paths: &Paths) -> Result<()> {
        let shown = known.path.display();
        let is_written = Written::new(&paths.state).of(&known.path).is_some();
        let stays = match known.layout {
            Layout::File if self.choice.is_block() && is_written => "is kept whole",
            Layout::Block if self.choice.is_replace() => "has the vault's lines in a block",
            Layout::File | Layout::Block => return Ok(()),
        };
        bail!(hinted(
            format!("`{shown}` {stays} already, and stays so"),
            format!("`vault-agent target remove --purge {shown}` ends that; then add it anew")
        ))
    }

    fn write(&self, known: &Target, table: &mut Table) {
        self.choice.write(table);
        if let Some(line) = self.on_change {
            let asked = words(line).map_or_else(|| line.to_owned(), |it| it.join(" "));
            // One that runs the same keeps its patience.
            if known.on_change.as_ref().is_none_or(|now| now.to_string() != asked) {
                table["on_change"] = hook(line);
            }
        }
    }
}

/// Finds the table of a target.
fn table<'a>(document: &'a mut DocumentMut, known: &Target) -> Result<&'a mut Table> {
    let targets = document.get_mut("target").and_then(Item::as_array_of_tables_mut);
    let mut tables = targets.into_iter().flat_map(|all| all.iter_mut());
    tables.find(|table| names(table, &known.path)).context("the target is gone meanwhile")
}
