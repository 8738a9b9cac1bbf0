//! Sizes as people read them. Pure.

/// Shows a number of bytes.
#[must_use]
pub fn shown(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        1_000_000..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_few_digits() {
        for (bytes, expected) in
            [(999, "999 B"), (1_000, "1 kB"), (2_999_999, "2 MB"), (3_221_225_472, "3.2 GB")]
        {
            assert_eq!(shown(bytes), expected);
        }
    }
}
