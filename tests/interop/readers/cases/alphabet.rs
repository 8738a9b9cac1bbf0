//! The values: every character in every place, the pieces that readers give a meaning to, and what
//! real secrets look like.

/// Pieces with a meaning to some reader.
const PIECES: [&str; 74] = [
    "'",
    "\"",
    "`",
    "$",
    "\\",
    "#",
    "=",
    " ",
    "\t",
    "\n",
    "\r",
    "\r\n",
    ";",
    ":",
    "!",
    "~",
    "*",
    "?",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    "<",
    ">",
    "|",
    "&",
    "%",
    "@",
    "^",
    ",",
    ".",
    "/",
    "+",
    "-",
    "_",
    "export ",
    "export A=",
    "${",
    "$(",
    "${HOME}",
    "$HOME",
    "$$",
    "$1",
    "$(id)",
    "`id`",
    "\\n",
    "\\r",
    "\\t",
    "\\\\",
    "\\\"",
    "\\'",
    "\\$",
    "\\`",
    "\\u0041",
    "\\x41",
    "\\0",
    "=\"",
    "='",
    " #",
    "# ",
    "''",
    "\"\"",
    "\"\"\"",
    "'''",
    "encrypted:",
    "{{",
    "%s",
    "<<EOF",
    "\nA=evil\n",
    "null",
    "true",
    "0x1F",
];

/// Characters from all over Unicode, spaces, joiners, surrogate pairs in UTF-16, and those that no
/// one has.
const UNICODE: [char; 36] = [
    'ä',
    'ß',
    '€',
    'é',
    'ñ',
    'Ω',
    'я',
    '中',
    '日',
    '한',
    'ا',
    'ש',
    '\u{A0}',
    '\u{85}',
    '\u{2028}',
    '\u{2029}',
    '\u{200B}',
    '\u{200D}',
    '\u{202E}',
    '\u{FEFF}',
    '\u{301}',
    '\u{3000}',
    '\u{FF04}',
    '😀',
    '🔑',
    '\u{1F468}',
    '\u{10FFFD}',
    '\u{E000}',
    '\u{FFFD}',
    '\u{FFFE}',
    '\u{FDD0}',
    '\u{1FFFE}',
    '\u{7F}',
    '\u{80}',
    '\u{9F}',
    '\u{AD}',
];

/// Characters that shells and libraries quote with or expand.
const SPECIAL: [char; 14] =
    ['\'', '"', '`', '$', '\\', '#', '=', ' ', '\n', '\r', '\t', '{', '(', '!'];

/// A small generator (splitmix64): the same seed, the same values, on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.roll() % most as u64).expect("it is below a usize")
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Returns `count` values, the systematic ones first.
pub fn values(count: usize, seed: u64) -> Vec<String> {
    let mut values = systematic();
    let mut dice = Dice(seed);
    while values.len() < count {
        values.push(match dice.below(10) {
            0..4 => pieces(&mut dice),
            4..7 => mixed(&mut dice),
            7 => printable(&mut dice),
            8 => real(&mut dice),
            _ => lines(&mut dice),
        });
    }
    values.truncate(count);
    values
}

/// Every character up to U+02FF alone, inside, at either end; every pair and triple of the special
/// ones; long values.
fn systematic() -> Vec<String> {
    let mut values = vec![String::new()];
    for c in (1..0x300).filter_map(char::from_u32).chain(UNICODE) {
        values.extend([format!("{c}"), format!("a{c}b"), format!("{c} x"), format!("x {c}")]);
    }
    for one in SPECIAL {
        for two in SPECIAL {
            values.extend([format!("{one}{two}"), format!("a{one}b{two}c")]);
            values.extend(SPECIAL.map(|three| format!("{one}{two}{three}")));
        }
    }
    for piece in PIECES {
        values.extend([
            piece.to_owned(),
            format!("a{piece}"),
            format!("{piece}a"),
            format!(" {piece} "),
        ]);
    }
    for length in [1_000, 4_096, 32_768, 60_000, 65_520, 65_526, 65_533] {
        values.extend(["x".repeat(length), "x y".repeat(length / 3), "ä'".repeat(length / 3)]);
    }
    values
}

fn pieces(dice: &mut Dice) -> String {
    (0..=dice.below(8)).map(|_| dice.pick(&PIECES)).collect()
}

fn mixed(dice: &mut Dice) -> String {
    let mut value = String::new();
    for _ in 0..=dice.below(24) {
        match dice.below(8) {
            0 => value.push_str(dice.pick(&PIECES)),
            1 => value.push(dice.pick(&UNICODE)),
            2 => value.push(dice.pick(&SPECIAL)),
            3 => value.push(char::from(u8::try_from(1 + dice.below(0x7E)).unwrap_or(b'x'))),
            _ => value.push(dice.pick(&['a', 'Z', '0', '9', ' ', 'n', 'x'])),
        }
    }
    value
}

/// What a password generator makes.
fn printable(dice: &mut Dice) -> String {
    let mut character = || char::from(u8::try_from(0x21 + dice.below(0x5E)).unwrap_or(b'x'));
    (0..24).map(|_| character()).collect()
}

/// What is found in real files.
fn real(dice: &mut Dice) -> String {
    let (secret, number) = (printable(dice), dice.roll());
    match dice.below(9) {
        0 => format!("postgres://app:{secret}@db.example.org:5432/app?sslmode=require&n={number}"),
        1 => format!("sk-proj-{number:016x}-{number:x}"),
        2 => format!("eyJhbGciOiJIUzI1NiJ9.{number:x}.{number:016x}=="),
        3 => format!("{{\"user\":\"app\",\"password\":\"{secret}\",\"n\":{number}}}"),
        4 => format!("C:\\Users\\app\\{number}\\"),
        5 => format!("^[a-z]+\\d{{{}}}$|\\\\server\\{number}", number % 9),
        6 => format!("It's {number} o'clock, \"sharp\" & #{number}"),
        7 => format!("Grüße aus Köln, {number} € – 100 % richtig?"),
        _ => secret,
    }
}

/// Values of several lines.
fn lines(dice: &mut Dice) -> String {
    let (one, two) = (mixed(dice), pieces(dice));
    match dice.below(4) {
        0 => format!(
            "-----BEGIN KEY-----\n{:064x}\n{:064x}\n-----END KEY-----\n",
            dice.roll(),
            dice.roll()
        ),
        1 => format!("line {}\n  indented\n\n# no comment\nB=2", dice.roll()),
        2 => format!("it's line {}\nand another", dice.roll()),
        _ => format!("{one}\n{two}"),
    }
}
