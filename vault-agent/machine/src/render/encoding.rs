//! What a file that is not UTF-8 is written in, told by its bytes, so that the way out works on
//! that very file.

use super::refusal::Why;

const NUL: Why = Why::new("a NUL byte", "remove the byte: an environment variable cannot hold it");
const UTF_16: Why = Why::new(
    "the file is UTF-16, not UTF-8",
    "convert it: `iconv -f UTF-16 -t UTF-8 FILE > NEW`, and use NEW",
);
const UTF_16_LE: Why = Why::new(
    "the file is UTF-16 (little-endian), not UTF-8",
    "convert it: `iconv -f UTF-16LE -t UTF-8 FILE > NEW`, and use NEW",
);
const UTF_16_BE: Why = Why::new(
    "the file is UTF-16 (big-endian), not UTF-8",
    "convert it: `iconv -f UTF-16BE -t UTF-8 FILE > NEW`, and use NEW",
);
const UTF_32: Why = Why::new(
    "the file is UTF-32, not UTF-8",
    "convert it: `iconv -f UTF-32 -t UTF-8 FILE > NEW`, and use NEW",
);
const CP1252: Why = Why::new(
    "not UTF-8, but what reads as cp1252, the encoding of Windows for western Europe",
    "convert it: `iconv -f CP1252 -t UTF-8 FILE > NEW`, and use NEW if its letters are right",
);
const MIXED: Why = Why::new(
    "a byte that is not UTF-8, in a file that is UTF-8 elsewhere",
    "type the character on this line anew",
);
const CUT: Why =
    Why::new("the file ends in the middle of a character", "it was cut off: take the whole file");
const UNKNOWN: Why = Why::new(
    "neither UTF-8, UTF-16 nor cp1252",
    "`file FILE` may tell what it is: it must become UTF-8 first",
);

/// Bytes that cp1252 gives no meaning, so that `iconv` stops at them.
const NOT_CP1252: [u8; 5] = [0x81, 0x8D, 0x8F, 0x90, 0x9D];

/// Returns the text of a file, without its byte order mark.
///
/// # Errors
/// The place of the first byte that is wrong, counted behind the mark, and why.
pub(super) fn text(file: &[u8]) -> Result<&str, (usize, Why)> {
    if file.starts_with(b"\xFF\xFE\0\0") || file.starts_with(b"\0\0\xFE\xFF") {
        return Err((0, UTF_32));
    }
    if file.starts_with(b"\xFF\xFE") || file.starts_with(b"\xFE\xFF") {
        return Err((0, UTF_16));
    }
    let file = file.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(file);
    if let Some(at) = file.iter().position(|byte| *byte == 0) {
        return Err(half_empty(file).map_or((at, NUL), |why| (0, why)));
    }
    std::str::from_utf8(file).map_err(|error| {
        let why = match error.error_len() {
            None => CUT,
            Some(_) if file.utf8_chunks().any(|chunk| !chunk.valid().is_ascii()) => MIXED,
            Some(_) if file.iter().any(|byte| NOT_CP1252.contains(byte)) => UNKNOWN,
            Some(_) => CP1252,
        };
        (error.valid_up_to(), why)
    })
}

/// Tells UTF-16 without a mark by every other byte being NUL, as it is for most letters.
fn half_empty(file: &[u8]) -> Option<Why> {
    let pairs = file.len() / 2;
    let empty = |half: usize| file.chunks_exact(2).filter(|pair| pair[half] == 0).count();
    match (empty(0), empty(1)) {
        (0, low) if low > pairs / 2 => Some(UTF_16_LE),
        (high, 0) if high > pairs / 2 => Some(UTF_16_BE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &[u8], at: usize, why: Why) {
        assert_eq!(text(file), Err((at, why)), "{file:?}");
    }

    fn utf_16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn the_encoding_is_named_that_is_there() {
        assert_eq!(text("\u{FEFF}A=ä\n".as_bytes()), Ok("A=ä\n"));
        check(&utf_16("\u{FEFF}A=ä\n", u16::to_le_bytes), 0, UTF_16);
        check(&utf_16("\u{FEFF}A=ä\n", u16::to_be_bytes), 0, UTF_16);
        check(&utf_16("A=ä\n", u16::to_le_bytes), 0, UTF_16_LE);
        check(&utf_16("A=ä\n", u16::to_be_bytes), 0, UTF_16_BE);
        check(b"\xFF\xFE\0\0A\0\0\0", 0, UTF_32);
        check(b"A=1\nB=p\xE4ss\x80\n", 7, CP1252);
        check(b"A=\xE4\x81\n", 2, UNKNOWN);
        check(
            "A=ä\nB=".as_bytes().iter().copied().chain(*b"\xFC1\n").collect::<Vec<_>>().as_slice(),
            7,
            MIXED,
        );
        check(b"A=1\nB=\xC3", 6, CUT);
        check(b"A=1\nB=\0", 6, NUL);
        check(b"A=\0\0\0\0\0\0", 2, NUL);
    }

    #[test]
    fn the_way_out_works_on_the_file() {
        use std::io::Write as _;
        let files = [
            (utf_16("\u{FEFF}A=ä\n", u16::to_le_bytes), "UTF-16"),
            (utf_16("A=ä\n", u16::to_le_bytes), "UTF-16LE"),
            (utf_16("A=ä\n", u16::to_be_bytes), "UTF-16BE"),
            (b"A=\xE4\n".to_vec(), "CP1252"),
        ];
        for (file, encoding) in files {
            let (_, why) = text(&file).unwrap_err();
            assert!(why.hint.contains(&format!("-f {encoding} ")), "{}", why.hint);
            let mut input = tempfile::NamedTempFile::new().unwrap();
            input.write_all(&file).unwrap();
            let iconv = std::process::Command::new("iconv");
            let Ok(output) =
                { iconv }.args(["-f", encoding, "-t", "UTF-8"]).arg(input.path()).output()
            else {
                return;
            };
            assert_eq!(text(&output.stdout), Ok("A=ä\n"), "{encoding}");
        }
    }
}
