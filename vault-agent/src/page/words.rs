//! Every word of the frame in both languages, and how a language is chosen. Words of one view live
//! beside that view, in a catalogue of its own.

use host::clock;

/// A language of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lang {
    /// English.
    #[default]
    En,
    /// German.
    De,
}

/// All of them.
pub(super) const LANGS: [Lang; 2] = [Lang::En, Lang::De];

impl Lang {
    /// Returns the code that HTML and HTTP know it by (BCP 47).
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::De => "de",
        }
    }

    /// Returns what those who speak it call it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::En => "English",
            Self::De => "Deutsch",
        }
    }

    /// Returns the one that is not shown.
    pub(super) const fn other(self) -> Self {
        match self {
            Self::En => Self::De,
            Self::De => Self::En,
        }
    }

    /// Finds a language by its code.
    pub(super) fn find(code: &str) -> Option<Self> {
        LANGS.into_iter().find(|lang| lang.code() == code)
    }

    /// Chooses what a browser likes best (RFC 9110, section 12.5.4); English if it names neither.
    pub(super) fn accepted(header: &str) -> Self {
        let named = header.split(',').take(32).filter_map(|part| {
            let (tag, rest) = part.split_once(';').unwrap_or((part, ""));
            let lang = Self::find(&tag.trim().split('-').next()?.to_ascii_lowercase())?;
            let quality = rest.trim().strip_prefix("q=").map_or(Some(1.0), |q| q.parse().ok())?;
            (quality > 0.0).then_some((lang, quality))
        });
        // Of those that are liked alike the first counts.
        let best = named.fold(None, |best: Option<(Self, f32)>, one| match best {
            Some(best) if best.1 >= one.1 => Some(best),
            Some(_) | None => Some(one),
        });
        best.map(|(lang, _)| lang).unwrap_or_default()
    }

    /// Says how long ago or for how long: `3 d`, `3 Tagen`.
    pub(super) fn age(self, seconds: u64) -> String {
        match (self, seconds / 86_400) {
            (Self::En, _) | (Self::De, 0) => clock::age(seconds),
            (Self::De, 1) => "1 Tag".to_owned(),
            (Self::De, days) => format!("{days} Tagen"),
        }
    }
}

/// Makes a struct of words with a value for each language, so that none can be left out.
macro_rules! catalogue {
    ($(#[$about:meta])* $name:ident: $($word:ident = $en:literal, $de:literal;)*) => {
        $(#[$about])*
        #[derive(Debug)]
        pub(in crate::page) struct $name {
            $(pub(in crate::page) $word: &'static str,)*
        }

        impl $name {
            const EN: Self = Self { $($word: $en,)* };
            const DE: Self = Self { $($word: $de,)* };

            /// Returns the words of a language.
            pub(in crate::page) const fn of(lang: $crate::page::words::Lang) -> &'static Self {
                match lang {
                    $crate::page::words::Lang::En => &Self::EN,
                    $crate::page::words::Lang::De => &Self::DE,
                }
            }

            /// Returns every word by its name, in English and German.
            #[cfg(test)]
            pub(in crate::page) const fn all() -> &'static [(&'static str, &'static str, &'static str)] {
                &[$((stringify!($word), $en, $de),)*]
            }
        }
    };
}
pub(super) use catalogue;

/// Puts values into the places that a text keeps for them, `{}`, in their order.
pub(super) fn fill(text: &str, values: &[&str]) -> String {
    let mut filled = String::with_capacity(text.len() + 16);
    let mut values = values.iter();
    let mut parts = text.split("{}");
    filled.push_str(parts.next().unwrap_or_default());
    for part in parts {
        filled.push_str(values.next().copied().unwrap_or_default());
        filled.push_str(part);
    }
    filled
}

catalogue! {
    /// The frame of every screen, and what several screens say.
    Words:
    skip = "Skip to content", "Zum Inhalt springen";
    screens = "Screens", "Ansichten";
    fleet = "Fleet", "Flotte";
    secrets = "Secrets", "Geheimnisse";
    readers = "Who reads", "Wer liest";
    audit = "Audit log", "Protokoll";
    machines = "Machines", "Systeme";
    alarms = "Alarms", "Alarme";
    refresh = "Refresh", "Neu laden";
    ended = "This page has ended. Type vault ui to open it again.",
        "Diese Seite ist beendet. vault ui öffnet sie wieder.";
    in_terminal = "In the terminal", "Im Terminal";
    ago = "{} ago", "vor {}";
    for_so_long = "for {}", "seit {}";
    now = "now", "jetzt";
    never = "never", "nie";
    none = "none", "keine";
    unknown = "not known", "nicht bekannt";
    more = "and {} more", "und {} weitere";
    next_page = "Next page", "Nächste Seite";
    back = "Back", "Zurück";
    host = "Host", "System";
    since = "Since", "Seit";
    by = "By", "Von";
    time = "Time", "Zeit";
    what = "What", "Was";
    reads = "Reads", "Liest";
    writes = "Writes", "Schreibt";
    version = "Version", "Version";
    right = "right", "in Ordnung";
    type_this = "Type", "Tippen";
    as_of = "As of {}", "Stand: {}";
    not_found = "Nothing is here", "Hier ist nichts";
    not_found_text = "There is no such page, or nothing by this name in the vault.",
        "Diese Seite gibt es nicht, oder nichts im Tresor heißt so.";
    failed = "This cannot be shown", "Das lässt sich nicht zeigen";
    refused = "This was not done", "Das wurde nicht getan";
    refused_text = "The form is not of this session. Go back, load the page again and try once more.",
        "Das Formular gehört nicht zu dieser Sitzung. Zurückgehen, neu laden und noch einmal versuchen.";
}

/// What a browser is told that has no session, whatever it asked for.
pub(super) const NO_SESSION: [&str; 2] = [
    "There is no session here: links are good once, for a minute. Type `vault ui` for a new one.\n",
    "Hier ist keine Sitzung: Links gelten ein Mal, eine Minute lang. `vault ui` gibt einen neuen.\n",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_that_is_liked_best_is_chosen() {
        for (header, expected) in [
            ("", Lang::En),
            ("fr, *;q=0.5", Lang::En),
            ("de", Lang::De),
            ("de-AT,de;q=0.9,en;q=0.8", Lang::De),
            ("en-US,en;q=0.9,de;q=0.8", Lang::En),
            ("fr;q=1.0, en;q=0.2, de;q=0.7", Lang::De),
            ("en;q=0, de;q=0.1", Lang::De),
            ("de;q=x", Lang::En),
            ("DE-ch", Lang::De),
        ] {
            assert_eq!(Lang::accepted(header), expected, "{header}");
        }
    }

    #[test]
    fn texts_are_filled_in_order() {
        assert_eq!(fill("{} of {}", &["1", "2"]), "1 of 2");
        assert_eq!(fill("{} of {}", &["1"]), "1 of ");
        assert_eq!(fill("none", &["1"]), "none");
        assert_eq!(fill("{}", &["{}"]), "{}");
    }

    #[test]
    fn ages_bow_to_their_language() {
        assert_eq!(Lang::En.age(300_000), "3 d");
        assert_eq!(Lang::De.age(300_000), "3 Tagen");
        assert_eq!(Lang::De.age(100_000), "1 Tag");
        assert_eq!(Lang::De.age(7_200), "2 h");
    }
}
