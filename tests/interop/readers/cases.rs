//! Makes values that readers of `.env` files stumble over, and writes them in every dialect by the
//! agent's own renderer. Reading them back is not done here: that is for the real readers.
//!
//! `reader-cases FOLDER COUNT SEED` writes `FOLDER/DIALECT/NNN`, and `FOLDER/DIALECT.json` with
//! what each file must say. The same seed makes the same values.

#[path = "cases/alphabet.rs"]
mod alphabet;

use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use machine::render::{self, Field, Format, Header, Multiline, Rules};
use serde_json::{Value, json};
use shared::plaintext::Plaintext;

/// No name below is longer, and so a value that it can have, all can.
const LONGEST_NAME: &str = "exportFoo999";

/// Values in one file.
const PER_FILE: usize = 250;

/// A dialect as it is tested: its name, its format, and whether it is about values of several lines
/// alone.
struct Dialect {
    name: &'static str,
    format: Format,
    multiline: Multiline,
}

const DIALECTS: [Dialect; 9] = [
    Dialect { name: "dotenv", format: Format::Dotenv, multiline: Multiline::Refuse },
    Dialect { name: "dotenv-multiline", format: Format::Dotenv, multiline: Multiline::Allow },
    Dialect { name: "compose", format: Format::Compose, multiline: Multiline::Refuse },
    Dialect { name: "docker", format: Format::Docker, multiline: Multiline::Refuse },
    Dialect { name: "systemd", format: Format::Systemd, multiline: Multiline::Refuse },
    Dialect { name: "sh", format: Format::Sh, multiline: Multiline::Refuse },
    Dialect { name: "json", format: Format::Json, multiline: Multiline::Refuse },
    Dialect { name: "yaml", format: Format::Yaml, multiline: Multiline::Refuse },
    Dialect { name: "toml", format: Format::Toml, multiline: Multiline::Refuse },
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, count, seed] = &arguments[..] else {
        return Err("usage: reader-cases FOLDER COUNT SEED".into());
    };
    let values = alphabet::values(count.parse()?, seed.parse()?);
    for dialect in &DIALECTS {
        write(Path::new(folder), dialect, &values)?;
    }
    Ok(())
}

/// Writes one dialect: values that it refuses are counted, all others must be read back.
fn write(folder: &Path, dialect: &Dialect, values: &[String]) -> Result<(), Box<dyn Error>> {
    let here = folder.join(dialect.name);
    std::fs::create_dir_all(&here)?;
    let rules = Rules { multiline: dialect.multiline, ..Rules::default() };
    let of_lines = dialect.multiline == Multiline::Allow;
    let asked: Vec<&String> = values.iter().filter(|v| !of_lines || v.contains('\n')).collect();
    let carried: Vec<&String> = asked
        .iter()
        .copied()
        .filter(|v| content(dialect, &rules, &[(LONGEST_NAME, v)]).is_ok())
        .collect();
    let header = header();
    let mut files = Vec::new();
    for (n, some) in carried.chunks(PER_FILE).enumerate() {
        let names: Vec<String> = (0..some.len()).map(name).collect();
        let pairs: Vec<(&str, &str)> =
            names.iter().map(String::as_str).zip(some.iter().map(|v| v.as_str())).collect();
        let rules = Rules { header: Some(&header), ..rules.clone() };
        let file = here.join(format!("{n:03}"));
        File::create(&file)?.write_all(content(dialect, &rules, &pairs)?.expose())?;
        let entries: Vec<Value> =
            pairs.iter().map(|pair| entry(dialect, &rules, *pair)).collect::<Result<_, _>>()?;
        files.push(json!({ "file": file, "entries": entries }));
    }
    let told = json!({
        "dialect": dialect.name, "asked": asked.len(), "carried": carried.len(), "files": files,
    });
    let told = serde_json::to_vec(&told)?;
    File::create(folder.join(format!("{}.json", dialect.name)))?.write_all(&told)?;
    Ok(())
}

/// One variable: its name, its value, and a whole file with it alone, to find which one a reader
/// gives up at.
fn entry(
    dialect: &Dialect,
    rules: &Rules<'_>,
    pair: (&str, &str),
) -> Result<Value, Box<dyn Error>> {
    let alone = content(dialect, rules, &[pair])?;
    let alone = std::str::from_utf8(alone.expose())?;
    Ok(json!({ "name": pair.0, "value": pair.1, "alone": alone }))
}

fn content(
    dialect: &Dialect,
    rules: &Rules<'_>,
    pairs: &[(&str, &str)],
) -> Result<Plaintext, Box<dyn Error>> {
    let field = |(name, value): &(&str, &str)| Field {
        name: (*name).to_owned(),
        value: render::Value::Text(Plaintext::from(value.as_bytes())),
    };
    let secrets = [("secret/app".parse()?, pairs.iter().map(field).collect())];
    Ok(render::render(dialect.format, &secrets, rules)?.content)
}

/// Names of several shapes, each once.
fn name(n: usize) -> String {
    match n % 4 {
        0 => format!("K{n}"),
        1 => format!("_k{n}"),
        2 => format!("API_KEY_{n}"),
        _ => format!("exportFoo{n}"),
    }
}

fn header() -> Header {
    Header {
        vault: "3f2a91c0".to_owned(),
        secrets: "secret/app".parse().map(|path| vec![(path, 3)]).unwrap_or_default(),
        restores: true,
    }
}
