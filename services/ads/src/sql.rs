//! Placeholders of statements with as many rows as there are values.
//!
//! Only numbers go into the text; every value is bound.

/// `$from, $from+1, …`, `count` of them.
pub(crate) fn places(from: usize, count: usize) -> String {
    let places: Vec<String> = (from..from + count).map(|at| format!("${at}")).collect();
    places.join(", ")
}

/// `($1, $2), ($3, $4)`: `rows` rows of `columns` values.
pub(crate) fn rows(rows: usize, columns: usize) -> String {
    let rows: Vec<String> =
        (0..rows).map(|row| format!("({})", places(row * columns + 1, columns))).collect();
    rows.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_numbered_through() {
        assert_eq!(places(3, 2), "$3, $4");
        assert_eq!(rows(2, 3), "($1, $2, $3), ($4, $5, $6)");
        assert_eq!(rows(0, 3), "");
    }
}
