//! Numbers of versions, in runs.

/// Writes `v1-v3,v5`.
pub fn ranges(versions: &[u64]) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &ver in versions {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == ver => *last = ver,
            Some(_) | None => runs.push((ver, ver)),
        }
    }
    let shown = runs.iter().map(|(first, last)| {
        if first == last { format!("v{first}") } else { format!("v{first}-v{last}") }
    });
    shown.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_shown_in_runs() {
        for (versions, expected) in
            [(vec![1], "v1"), (vec![1, 2, 3, 5, 7, 8], "v1-v3,v5,v7-v8"), (vec![], "")]
        {
            assert_eq!(ranges(&versions), expected);
        }
    }
}
