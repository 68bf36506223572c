//! A list of names by number, shared with readers without copying.

use std::sync::Arc;

const CHUNK: usize = 1024;

/// Names by number; the number of a name that nobody has any more is given to another.
#[derive(Clone, Debug, Default)]
pub(crate) struct NameList {
    chunks: Arc<Vec<Arc<Vec<Arc<str>>>>>,
}

impl NameList {
    pub fn get(&self, number: u32) -> Option<&str> {
        self.chunks.get(number as usize / CHUNK)?.get(number as usize % CHUNK).map(AsRef::as_ref)
    }

    /// Number of names.
    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    /// Puts a name in the place of another, or the empty one where nobody has the number now.
    pub fn set(&mut self, number: u32, name: Arc<str>) {
        let chunks = Arc::make_mut(&mut self.chunks);
        if let Some(chunk) = chunks.get_mut(number as usize / CHUNK) {
            Arc::make_mut(chunk)[number as usize % CHUNK] = name;
        }
    }

    /// Adds a name; gives its number. There are fewer names than posts, so the number fits.
    pub fn push(&mut self, name: Arc<str>) -> u32 {
        let number = self.len();
        let chunks = Arc::make_mut(&mut self.chunks);
        if number.is_multiple_of(CHUNK) {
            chunks.push(Arc::default());
        }
        if let Some(last) = chunks.last_mut() {
            Arc::make_mut(last).push(name);
        }
        number as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_in_order_and_stay() {
        let mut names = NameList::default();
        let numbers: Vec<u32> = (0..2500).map(|n| names.push(n.to_string().into())).collect();
        let earlier = names.clone();
        names.push("late".into());
        assert_eq!(numbers, (0..2500).collect::<Vec<_>>());
        assert_eq!((earlier.len(), names.len()), (2500, 2501));
        assert_eq!(
            (earlier.get(1024), earlier.get(2500), names.get(2500)),
            (Some("1024"), None, Some("late"))
        );
    }
}
