//! The modules of a crate, and which file uses which: every path in the code is followed, through
//! groups, `super::`, re-exports and names that an import brought, to the file that defines its
//! end. No rule lives here.

use std::collections::{BTreeMap, BTreeSet};

use crate::rust::{Token, closed, production};
use crate::tree::File;

/// Keywords whose next word is the name of an item.
const DEFINING: [&str; 10] =
    ["const", "enum", "fn", "macro_rules", "static", "struct", "trait", "type", "union", "mod"];

/// An import: the name it brings and the path it stands for.
#[derive(Clone, Debug)]
struct Use {
    name: String,
    path: Vec<String>,
    /// Hands the name on to others; a use of its own only where the name is used.
    public: bool,
}

/// A module: a file, or a part of one.
#[derive(Debug, Default)]
struct Module {
    /// The file's path.
    file: String,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    items: BTreeSet<String>,
    uses: Vec<Use>,
    /// Paths in the code, an import's among them.
    paths: Vec<Vec<String>>,
}

/// A crate as its modules.
#[derive(Debug)]
pub struct Crate {
    /// The crate's root is the first.
    modules: Vec<Module>,
}

/// One file uses another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrow {
    /// Path of the file that uses.
    pub from: String,
    /// Path of the file that is used.
    pub to: String,
    /// What is used, as the code writes it.
    pub name: String,
}

/// Finds the file of the module `below` a folder, and the folder of its own modules. A bench may
/// share the folder of a test, which lies beside its own: `#[path = "../evil"] mod evil { … }`.
fn place(files: &[File], below: String) -> Option<(&File, String)> {
    let beside = below.replacen("/bench/", "/", 1);
    [below, beside].into_iter().find_map(|below| {
        let places = [format!("{below}.rs"), format!("{below}/mod.rs")];
        let file = files.iter().find(|file| places.contains(&file.path))?;
        Some((file, below))
    })
}

impl Crate {
    /// Reads the crate whose root is the file `root`, among `files`; modules that are built for
    /// tests only are left out.
    pub fn read(files: &[File], root: &str) -> Self {
        let mut found = Self { modules: Vec::new() };
        let file = files.iter().find(|file| file.path == root);
        let file = file.unwrap_or_else(|| panic!("{root}: no such file"));
        let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
        found.add(files, root, folder, &production(&file.text), None);
        found
    }

    /// Returns the names of the modules below the root.
    pub fn tops(&self) -> Vec<&str> {
        self.modules[0].children.keys().map(String::as_str).collect()
    }

    /// Returns the top module that a file belongs to; the root file belongs to none.
    pub fn top(&self, file: &str) -> Option<&str> {
        let mut at = self.modules.iter().position(|module| module.file == file)?;
        while let Some(parent) = self.modules[at].parent {
            if parent == 0 {
                let mut tops = self.modules[0].children.iter();
                return tops.find(|(_, child)| **child == at).map(|(name, _)| name.as_str());
            }
            at = parent;
        }
        None
    }

    /// Returns which file uses which, each pair once.
    pub fn arrows(&self) -> Vec<Arrow> {
        let mut found: BTreeMap<(&str, &str), String> = BTreeMap::new();
        for (at, module) in self.modules.iter().enumerate() {
            for path in &module.paths {
                let Some(to) = self.follow(at, path, &mut Vec::new()) else { continue };
                let to = self.modules[to].file.as_str();
                if to != module.file {
                    found.entry((&module.file, to)).or_insert_with(|| path.join("::"));
                }
            }
        }
        let arrow = |((from, to), name): ((&str, &str), String)| Arrow {
            from: from.to_owned(),
            to: to.to_owned(),
            name,
        };
        found.into_iter().map(arrow).collect()
    }

    /// Adds a module that is a file, or a block inside of one.
    fn add(
        &mut self,
        files: &[File],
        file: &str,
        folder: &str,
        tokens: &[Token],
        parent: Option<usize>,
    ) -> usize {
        let this = self.modules.len();
        self.modules.push(Module { file: file.to_owned(), parent, ..Module::default() });
        let mut own = Vec::new();
        let mut at = 0;
        let mut depth = 0;
        while at < tokens.len() {
            let opens = |sign| tokens.get(at + 2) == Some(&Token::Sign(sign));
            let named = tokens.get(at + 1).and_then(Token::word);
            if let (0, Some("mod"), Some(name)) = (depth, tokens[at].word(), named) {
                let below = format!("{folder}/{name}");
                let child = if opens('{') {
                    let end = closed(tokens, at + 2);
                    let child = self.add(files, file, &below, &tokens[at + 3..end - 1], Some(this));
                    at = end;
                    child
                } else {
                    at += 3;
                    let Some((file, below)) = place(files, below) else {
                        panic!("{file}: no file for `mod {name}`")
                    };
                    self.add(files, &file.path, &below, &production(&file.text), Some(this))
                };
                self.modules[this].children.insert(name.to_owned(), child);
                continue;
            }
            match tokens[at] {
                Token::Sign('{') => depth += 1,
                Token::Sign('}') => depth -= 1,
                Token::Sign(_) | Token::Word(_) | Token::Path => {}
            }
            own.push(tokens[at].clone());
            at += 1;
        }
        self.modules[this].fill(&own);
        this
    }

    /// Returns the module that defines the end of `path`, as the module `at` understands it;
    /// nothing if that is in another crate.
    fn follow(&self, at: usize, path: &[String], seen: &mut Vec<(usize, String)>) -> Option<usize> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.walk(0, rest, seen).or(Some(0)),
            "self" => self.walk(at, rest, seen).or(Some(at)),
            "super" => {
                let parent = self.modules[at].parent?;
                match rest.first().is_some_and(|next| next == "super") {
                    true => self.follow(parent, rest, seen),
                    false => self.walk(parent, rest, seen).or(Some(parent)),
                }
            }
            _ => self.walk(at, path, seen),
        }
    }

    /// As [`Crate::follow`], for a path that starts among the names of module `at`.
    fn walk(&self, at: usize, path: &[String], seen: &mut Vec<(usize, String)>) -> Option<usize> {
        let Some((first, rest)) = path.split_first() else { return Some(at) };
        let module = &self.modules[at];
        if let Some(child) = module.children.get(first) {
            return self.walk(*child, rest, seen).or(Some(*child));
        }
        if module.items.contains(first) {
            return Some(at);
        }
        // `use a::a` would ask for itself.
        let key = (at, first.clone());
        if seen.contains(&key) {
            return None;
        }
        seen.push(key);
        let brought = module.uses.iter().filter(|import| import.name == *first);
        for import in brought {
            let whole = [import.path.as_slice(), rest].concat();
            if let Some(found) = self.follow(at, &whole, seen) {
                return Some(found);
            }
        }
        let globs = module.uses.iter().filter(|import| import.name == "*");
        globs.filter(|import| import.path != ["super"]).find_map(|import| {
            let other = self.follow(at, &import.path, seen)?;
            self.walk(other, path, seen)
        })
    }
}

impl Module {
    /// Reads the items, imports and paths of the module's own tokens.
    fn fill(&mut self, tokens: &[Token]) {
        let mut at = 0;
        let mut depth = 0;
        let mut words = BTreeSet::new();
        while at < tokens.len() {
            match &tokens[at] {
                Token::Word(word) if word == "use" => {
                    let end = (at..tokens.len()).find(|n| tokens[*n] == Token::Sign(';'));
                    let end = end.unwrap_or(tokens.len());
                    let before = at.checked_sub(1).map(|before| &tokens[before]);
                    let public = before.is_some_and(|token| {
                        token.word() == Some("pub") || *token == Token::Sign(')')
                    });
                    imports(&tokens[at + 1..end], &mut Vec::new(), public, &mut self.uses);
                    at = end;
                }
                Token::Word(word) => {
                    let next = match tokens.get(at + 1) {
                        Some(Token::Sign('!')) => tokens.get(at + 2),
                        other => other,
                    };
                    if let (0, true, Some(Token::Word(name))) =
                        (depth, DEFINING.contains(&word.as_str()), next)
                    {
                        self.items.insert(name.clone());
                    }
                    let end = path_end(tokens, at);
                    let path: Vec<String> =
                        tokens[at..end].iter().filter_map(Token::word).map(str::to_owned).collect();
                    if starts_path(&tokens[..at]) {
                        match path.len() {
                            1 => drop(words.insert(path[0].clone())),
                            _ => self.paths.push(path),
                        }
                    }
                    at = end - 1;
                }
                Token::Sign('{') => depth += 1,
                Token::Sign('}') => depth -= 1,
                Token::Sign(_) | Token::Path => {}
            }
            at += 1;
        }
        let used = self.uses.iter().filter(|import| !import.public || words.contains(&import.name));
        self.paths.extend(used.map(|import| import.path.clone()));
    }
}

/// Tells whether a path that uses something may start behind `before`: no method, field, other
/// crate's path, or `pub(in …)`.
fn starts_path(before: &[Token]) -> bool {
    let word = |token: &Token, wanted: &str| token.word() == Some(wanted);
    match before {
        [.., Token::Sign('.') | Token::Path] => false,
        [.., public, Token::Sign('('), within] => !word(public, "pub") || !word(within, "in"),
        _ => true,
    }
}

/// Returns the place behind the path `a::b::c` that starts at `at`.
fn path_end(tokens: &[Token], at: usize) -> usize {
    let mut end = at + 1;
    while tokens.get(end) == Some(&Token::Path)
        && tokens.get(end + 1).and_then(Token::word).is_some()
    {
        end += 2;
    }
    end
}

/// Reads a `use` tree, after `prefix`.
fn imports(tokens: &[Token], prefix: &mut Vec<String>, public: bool, found: &mut Vec<Use>) {
    let mut at = 0;
    let depth = prefix.len();
    while at < tokens.len() {
        match &tokens[at] {
            Token::Word(word) if word == "as" => {
                let name = tokens.get(at + 1).and_then(Token::word).unwrap_or("_").to_owned();
                found.push(Use { name, path: std::mem::take(prefix), public });
                return;
            }
            Token::Word(word) => prefix.push(word.clone()),
            Token::Sign('*') => {
                found.push(Use { name: "*".to_owned(), path: prefix.clone(), public });
                prefix.truncate(depth);
                return;
            }
            Token::Sign('{') => {
                let end = closed(tokens, at);
                for member in members(&tokens[at + 1..end - 1]) {
                    imports(member, &mut prefix.clone(), public, found);
                }
                return;
            }
            Token::Sign(_) | Token::Path => {}
        }
        at += 1;
    }
    // `a::{self}` brings `a`.
    if prefix.len() > 1 && prefix.last().is_some_and(|last| last == "self") {
        prefix.pop();
    }
    if let Some(name) = prefix.last() {
        found.push(Use { name: name.clone(), path: prefix.clone(), public });
    }
}

/// Splits a group at its own commas.
fn members(group: &[Token]) -> Vec<&[Token]> {
    let (mut found, mut start, mut at) = (Vec::new(), 0, 0);
    while at < group.len() {
        match group[at] {
            Token::Sign('{') => at = closed(group, at) - 1,
            Token::Sign(',') => {
                found.push(&group[start..at]);
                start = at + 1;
            }
            Token::Sign(_) | Token::Word(_) | Token::Path => {}
        }
        at += 1;
    }
    found.push(&group[start..]);
    found.into_iter().filter(|member| !member.is_empty()).collect()
}

/// Returns circles of files that use each other, no arrow twice; each arrow that closes a circle is
/// in one, or its circle shares an arrow with one.
pub fn circles(arrows: &[Arrow]) -> Vec<Vec<Arrow>> {
    let mut found: Vec<Vec<Arrow>> = Vec::new();
    for start in arrows {
        let Some(back) = way(arrows, &start.to, &start.from) else { continue };
        let circle = [vec![start.clone()], back].concat();
        let is_new = |arrow: &Arrow| !found.iter().flatten().any(|known| known == arrow);
        if circle.iter().all(is_new) {
            found.push(circle);
        }
    }
    found
}

/// Returns a shortest way along the arrows.
fn way(arrows: &[Arrow], from: &str, to: &str) -> Option<Vec<Arrow>> {
    let mut ways: Vec<Vec<Arrow>> = vec![Vec::new()];
    let mut seen = BTreeSet::from([from]);
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in &ways {
            let end = way.last().map_or(from, |arrow| arrow.to.as_str());
            for arrow in arrows.iter().filter(|arrow| arrow.from == end) {
                let whole = [way.as_slice(), std::slice::from_ref(arrow)].concat();
                if arrow.to == to {
                    return Some(whole);
                }
                if seen.insert(&arrow.to) {
                    longer.push(whole);
                }
            }
        }
        ways = longer;
    }
    None
}
