//! Sequences of tokens as the tensors of one call.

use bowerbird_models_api::{BATCH_LENGTHS, BATCH_ROWS, BATCH_TOKENS};

/// One sequence: token ids and segment of each, marks included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) ids: Vec<i64>,
    pub(crate) types: Vec<i64>,
}

/// Inputs of one call, each `[rows, length] i64`. Padding has id 0, segment 0 and mask 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "a number of rows has no other name")]
pub(crate) struct Rows {
    pub(crate) rows: usize,
    pub(crate) length: usize,
    pub(crate) ids: Vec<i64>,
    pub(crate) mask: Vec<i64>,
    pub(crate) types: Vec<i64>,
}

impl Rows {
    /// `rows`, each at most `length` long, padded at the end.
    pub(crate) fn padded(rows: &[&Row], length: usize) -> Self {
        let mut all = Self { rows: rows.len(), length, ..Self::default() };
        for row in rows {
            let end = all.ids.len() + length;
            all.ids.extend(&row.ids);
            all.types.extend(&row.types);
            all.mask.resize(all.ids.len(), 1);
            for values in [&mut all.ids, &mut all.types, &mut all.mask] {
                values.resize(end, 0);
            }
        }
        all
    }

    /// One sequence without padding.
    pub(crate) fn one(row: &Row) -> Self {
        Self::padded(&[row], row.ids.len())
    }

    /// Tokens of row `row` that are not padding.
    pub(crate) fn tokens(&self, row: usize) -> usize {
        self.mask[row * self.length..(row + 1) * self.length].iter().filter(|mask| **mask == 1).count()
    }
}

/// Sizes of the calls that many rows are cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchShapes {
    /// Lengths that rows are padded to, rising; longer rows keep their own length.
    pub(crate) ladder: [usize; 7],
    /// Most tokens of a call, padding counted. A single row may have more.
    pub(crate) tokens: usize,
    /// Most rows of a call.
    pub(crate) rows: usize,
}

impl Default for BatchShapes {
    fn default() -> Self {
        Self { ladder: BATCH_LENGTHS, tokens: BATCH_TOKENS, rows: BATCH_ROWS }
    }
}

impl BatchShapes {
    /// Cuts rows into calls: (length, indexes of its rows). Rows of a call are of one length, those of the longest
    /// first, in their order.
    pub(crate) fn calls(&self, rows: &[Row]) -> Vec<(usize, Vec<usize>)> {
        let padded = |row: &Row| {
            let length = row.ids.len();
            self.ladder.into_iter().find(|step| length <= *step).unwrap_or(length)
        };
        let mut order: Vec<(usize, usize)> = rows.iter().map(padded).zip(0..).collect();
        order.sort_by_key(|(length, index)| (std::cmp::Reverse(*length), *index));
        let mut calls: Vec<(usize, Vec<usize>)> = Vec::new();
        for (length, index) in order {
            match calls.last_mut() {
                Some((last, members))
                    if *last == length
                        && members.len() < self.rows
                        && (members.len() + 1) * length <= self.tokens =>
                {
                    members.push(index);
                }
                _ => calls.push((length, vec![index])),
            }
        }
        calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(length: usize) -> Row {
        Row { ids: vec![7; length], types: vec![1; length] }
    }

    #[test]
    fn rows_are_padded_at_the_end_and_masked() {
        let rows = Rows::padded(&[&row(2), &row(3)], 3);
        assert_eq!((rows.rows, rows.length), (2, 3));
        assert_eq!(rows.ids, [7, 7, 0, 7, 7, 7]);
        assert_eq!(rows.types, [1, 1, 0, 1, 1, 1]);
        assert_eq!(rows.mask, [1, 1, 0, 1, 1, 1]);
        assert_eq!([rows.tokens(0), rows.tokens(1)], [2, 3]);
        assert_eq!(Rows::one(&row(2)).mask, [1, 1]);
    }

    #[test]
    fn calls_have_one_length_and_keep_within_the_budget() {
        let shapes = BatchShapes { tokens: 64, rows: 3, ..BatchShapes::default() };
        let rows: Vec<Row> = [5, 20, 16, 17, 1, 600, 9, 32].map(row).into();
        assert_eq!(
            shapes.calls(&rows),
            [(600, vec![5]), (32, vec![1, 3]), (32, vec![7]), (16, vec![0, 2, 4]), (16, vec![6])]
        );
        assert_eq!(shapes.calls(&[]), []);
    }
}
