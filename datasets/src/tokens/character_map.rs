//! The normalisation in a SentencePiece model: a double-array trie and the texts that its values
//! point at.
//!
//! The library that applies it does not check its offsets and panics on wrong ones, so they are
//! checked here. Format: <https://github.com/s-yata/darts-clone>. A unit of the trie has 32 bits: a
//! label (8), whether there is a leaf (1), and an offset (22), which is shifted by 8 where bit 9 is
//! set; a leaf has a value of 31 bits.

/// Checks a map, which has the trie's length in bytes, the trie, and the texts. On failure,
/// describes the problem.
pub(super) fn check(map: &[u8]) -> Result<(), &'static str> {
    const CUT: &str = "its character map is cut off";
    let (length, rest) = map.split_first_chunk().ok_or(CUT)?;
    let n_units = u32::from_le_bytes(*length) as usize / 4;
    let (trie, texts) = rest.split_at_checked(4 * n_units).ok_or(CUT)?;
    let units: Vec<u32> = trie
        .chunks_exact(4)
        .map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]]))
        .collect();
    let texts =
        str::from_utf8(texts).map_err(|_| "the texts of its character map are not UTF-8")?;
    match all_inside(&units, texts) {
        true => Ok(()),
        false => Err("its character map points beyond its end"),
    }
}

/// Whether all units that a lookup can reach exist, and so do the texts that they point at.
fn all_inside(units: &[u32], texts: &str) -> bool {
    let offset = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
    let Some(&root) = units.first() else {
        return false;
    };
    let mut seen = vec![false; units.len()];
    // Base indices of units: the index of a child is the base XOR the byte.
    let mut nodes = vec![offset(root)];
    while let Some(node) = nodes.pop() {
        match seen.get_mut(node) {
            Some(seen) if !*seen => *seen = true,
            Some(_) => continue,
            None => return false,
        }
        for byte in 1..=0xff {
            let child = node ^ byte;
            let Some(&unit) = units.get(child) else {
                return false;
            };
            if unit & (1 << 31 | 0xff) != byte as u32 {
                continue;
            }
            let next = child ^ offset(unit);
            let has_leaf = unit >> 8 & 1 == 1;
            let value = units.get(next).map(|leaf| (leaf & !(1 << 31)) as usize);
            if has_leaf && value.is_none_or(|value| !texts.is_char_boundary(value)) {
                return false;
            }
            nodes.push(next);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map with these units and texts.
    fn map(units: &[u32], texts: &[u8]) -> Vec<u8> {
        let length = 4 * units.len() as u32;
        let units = std::iter::once(&length).chain(units);
        [
            &units
                .flat_map(|unit| unit.to_le_bytes())
                .collect::<Vec<u8>>(),
            texts,
        ]
        .concat()
    }

    #[test]
    fn wrong_places_are_found() {
        // The root's children start at 256; `a` is one of them, whose leaf is at 512, with value 1.
        let mut units = vec![0; 768];
        units[0] = 256 << 10;
        let child = 256 ^ 0x61;
        units[child] = 0x61 | 1 << 8 | ((child as u32 ^ 512) << 10);
        units[512] = 1;
        assert_eq!(check(&map(&units, b"x\0y\0")), Ok(()));
        let beyond = Err("its character map points beyond its end");
        assert_eq!(check(&map(&units[..512], b"x\0y\0")), beyond);
        assert_eq!(check(&map(&units, b"")), beyond);
        assert_eq!(check(&map(&units, "ü".as_bytes())), beyond);
        assert_eq!(check(&map(&[], b"")), beyond);
        assert_eq!(
            check(b"\xff\xff\xff\xff"),
            Err("its character map is cut off")
        );
        assert_eq!(check(b"a"), Err("its character map is cut off"));
    }
}
