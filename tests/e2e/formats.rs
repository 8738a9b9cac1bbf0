//! Targets in every format, binary files, blocks among a person's own lines, and templates.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tests::{Host, World, bins, watch};

/// Adds targets to the running agent's configuration.
fn configure(host: &Host, text: &str) {
    let file = host.state().join("agent.toml");
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Saves a file in place, as editors and shells do.
fn save(file: &Path, content: impl AsRef<[u8]>) {
    std::fs::File::create(file).unwrap().write_all(content.as_ref()).unwrap();
}

fn target(file: &Path, more: &str) -> String {
    format!("\n[[target]]\npath = \"{}\"\nsecrets = [\"secret/app\"]\n{more}\n", file.display())
}

fn home(host: &Host, name: &str) -> PathBuf {
    host.dir.join("home").join(name)
}

#[test]
fn one_secret_in_every_format() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let json = r#"{"db-pass":"it's $5 \"now\"","db":{"port":5432},"ca":"one\ntwo\n"}"#;
    let _ = host.vault_with(&["kv", "put", "secret/app", "-"], json).ok();
    let rules = "keys = [\"db-pass\", \"db\"]\nrename = { \"db-pass\" = \"PASS\" }\nprefix = \"app_\"\nupper = true\nnested = \"flatten\"";
    let formats = ["compose", "docker", "systemd", "sh", "json", "yaml", "toml"];
    let mut text = target(&home(&host, "raw"), "format = \"raw\"\nkeys = [\"ca\"]");
    for format in formats {
        text += &target(&home(&host, format), &format!("format = \"{format}\"\n{rules}"));
    }
    text += &target(&home(&host, "dotenv"), rules);
    configure(&host, &text);
    let mut shown = String::new();
    for format in formats.iter().chain(&["raw"]) {
        let file = watch::until(&home(&host, format), |text| !text.is_empty());
        let vault = file.split([' ', ':']).nth(2).filter(|_| file.starts_with("# vault "));
        shown += &format!("== {format}\n{}", file.replace(vault.unwrap_or("\0"), "[VAULT]"));
    }
    insta::assert_snapshot!(shown);
    // The portable rule has no form for this value: there is no file, and the status names the key.
    let refused = watch::poll("the refusal is reported", || {
        let status = host.vault(&["status"]).err;
        status.lines().find(|line| line.contains("refused: ")).map(str::to_owned)
    });
    assert!(refused.contains("`PASS` holds `'` together with `$`"), "{refused}");
    assert!(!home(&host, "dotenv").exists());
    let export =
        host.vault(&["export", "--rename", "db-pass=PASS", "--key", "db-pass", "secret/app"]);
    assert_eq!((export.code, export.out.as_str()), (1, ""));
    assert!(export.err.contains("`PASS`") && !export.err.contains("it's"), "{}", export.err);
    let out = home(&host, "exported");
    let file = out.to_str().unwrap();
    let _ =
        host.vault(&["export", "--format", "raw", "--key", "ca", "--out", file, "secret/app"]).ok();
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "one\ntwo\n");
    assert_eq!(out.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn binary_files_come_back_byte_for_byte() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let bytes: Vec<u8> =
        (0..768_u32 << 10).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let source = home(&host, "keystore");
    save(&source, &bytes);
    let from = format!("file=@{}", source.display());
    let _ = host.vault(&["kv", "put", "secret/app", &from]).ok();
    let field = |path: &str, name: &str| {
        let args = ["kv", "get", &format!("-field={name}"), path];
        host.command(host.bins.vault).args(args).output().unwrap().stdout
    };
    assert!(field("secret/app", "file") == bytes, "another file came back");
    configure(&host, &target(&home(&host, "copy"), "format = \"raw\""));
    watch::poll("the target is the file", || {
        (std::fs::read(home(&host, "copy")).ok()? == bytes).then_some(())
    });
    let json = host.vault(&["kv", "get", "-format=json", "secret/app"]).ok();
    assert!(json.contains("\"$base64\": \""), "other clients see base64");

    // Beside other keys bytes stay what they are, within what base64 leaves of the room.
    let _ = host.vault(&["kv", "patch", "secret/app", "file=text"]).ok();
    let small = home(&host, "small");
    save(&small, &bytes[..1000]);
    let _ = host.vault(&["kv", "patch", "secret/app", &format!("jks=@{}", small.display())]).ok();
    assert!(field("secret/app", "jks") == bytes[..1000] && field("secret/app", "file") == b"text");
    let shown = host.vault(&["kv", "get", "secret/app"]).ok();
    assert!(shown.contains("<binary, 1000 bytes>"), "{shown}");
    save(&source, [&bytes[..], b"x"].concat());
    let large = host.vault(&["kv", "put", "secret/app", &from]);
    assert!(large.code == 2 && large.err.contains("768 KiB at most"), "{}", large.err);

    let pem = "-----BEGIN-----\nx\n-----END-----\n";
    save(&source, pem);
    let _ = host.vault(&["kv", "put", "secret/app", &from]).ok();
    assert_eq!(field("secret/app", "file"), pem.as_bytes());
}

#[test]
fn a_block_leaves_all_other_lines_alone() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let file = home(&host, "mine.env");
    save(&file, "MINE=1\n# my comment");
    let _ = host.vault(&["kv", "put", "secret/app", "KEY=one"]).ok();
    configure(&host, &target(&file, "layout = \"block\"\nheader = false\non_delete = \"remove\""));
    let block = |value: &str| format!("# BEGIN vault-agent\nKEY={value}\n# END vault-agent\n");
    watch::until(&file, |text| text == format!("MINE=1\n# my comment\n{}", block("one")));

    // An edit outside stays, one inside is put back, a new version changes the block alone.
    save(&file, format!("MINE=2\n{}AFTER=1\n", block("edited")));
    watch::until(&file, |text| text == format!("MINE=2\n{}AFTER=1\n", block("one")));
    let _ = host.vault(&["kv", "put", "secret/app", "KEY=two"]).ok();
    watch::until(&file, |text| text == format!("MINE=2\n{}AFTER=1\n", block("two")));

    // Broken markers are refused, and the file is kept, until they are mended.
    let broken = "MINE=2\n# BEGIN vault-agent\nKEY=two\nAFTER=1\n";
    save(&file, broken);
    watch::poll("the markers are refused", || {
        host.vault(&["status"]).err.contains("line 2: `# BEGIN vault-agent` without").then_some(())
    });
    assert_eq!(std::fs::read_to_string(&file).unwrap(), broken);
    save(&file, "MINE=3\n");
    watch::until(&file, |text| text == format!("MINE=3\n{}", block("two")));

    let _ = host.vault(&["kv", "delete", "secret/app"]).ok();
    watch::until(&file, |text| text == "MINE=3\n");
}

#[test]
fn a_template_is_followed_and_a_missing_key_keeps_the_file() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let (file, template) = (home(&host, "app.conf"), home(&host, "app.tmpl"));
    let write = |text: &str| save(&template, text);
    write("password = {{ PASSWORD }}\n");
    let _ = host.vault(&["kv", "put", "secret/app", "PASSWORD=<&\"'>"]).ok();
    configure(
        &host,
        &target(
            &file,
            &format!("format = \"template\"\ntemplate_file = \"{}\"", template.display()),
        ),
    );
    watch::until(&file, |text| text == "password = <&\"'>\n");
    write("[db]\npassword = {{ secrets[\"secret/app\"].PASSWORD }}\n");
    watch::until(&file, |text| text == "[db]\npassword = <&\"'>\n");
    write("[db]\nuser = {{ USER }}\n");
    watch::poll("the missing key is reported", || {
        let status = host.vault(&["status"]).err;
        status
            .contains("line 2 of the template: `{{ USER }}` is in none of the secrets")
            .then_some(())
    });
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "[db]\npassword = <&\"'>\n");
    let _ = host.vault(&["kv", "patch", "secret/app", "USER=jonas"]).ok();
    watch::until(&file, |text| text == "[db]\nuser = jonas\n");
}
