//! How likely a slip of the fingers turns one word into another: the channel of a noisy-channel corrector.
//!
//! Source of the model: Kernighan, Church and Gale, "A spelling correction program based on a noisy channel model"
//! (1990). Costs are negative log-probabilities in rough nats, set by hand for touch typing on a QWERTY keyboard and
//! checked by `benches/suggest.rs`.

/// One edit that has no particular reason.
const EDIT: f64 = 6.5;
/// A key beside the one that was meant.
const NEIGHBOUR: f64 = 4.5;
/// Two letters in the wrong order.
const SWAP: f64 = 4.0;
/// A letter doubled, or one of a double left out.
const DOUBLE: f64 = 3.5;
/// A letter left out, or one too many.
const OMISSION: f64 = 5.5;
/// One vowel for another: not a slip, but a way to spell.
const VOWEL: f64 = 4.5;
/// On top, for an edit of the first letter: people rarely miss it.
const FIRST: f64 = 3.0;

const ROWS: [(&str, f64); 3] = [("qwertyuiop", 0.0), ("asdfghjkl", 0.25), ("zxcvbnm", 0.75)];

/// Cost of typing `typed` for `meant`: the cheapest way by insertions, omissions, substitutions and swaps of
/// neighbours.
pub(super) fn cost(typed: &str, meant: &str) -> f64 {
    let typed: Vec<char> = typed.chars().collect();
    let meant: Vec<char> = meant.chars().collect();
    let width = meant.len() + 1;
    let mut costs = vec![0.0; (typed.len() + 1) * width];
    let first = |i: usize, j: usize| if i.min(j) == 0 { FIRST } else { 0.0 };
    for i in 0..=typed.len() {
        for j in 0..=meant.len() {
            if i == 0 && j == 0 {
                continue;
            }
            let mut best = f64::INFINITY;
            if i > 0 {
                let cost = one_side(&typed, i - 1) + first(i - 1, j);
                best = best.min(costs[(i - 1) * width + j] + cost);
            }
            if j > 0 {
                let cost = one_side(&meant, j - 1) + first(i, j - 1);
                best = best.min(costs[i * width + j - 1] + cost);
            }
            if i > 0 && j > 0 {
                let same = typed[i - 1] == meant[j - 1];
                let cost =
                    if same { 0.0 } else { substitution(typed[i - 1], meant[j - 1]) + first(i - 1, j - 1) };
                best = best.min(costs[(i - 1) * width + j - 1] + cost);
            }
            if i > 1 && j > 1 && typed[i - 1] == meant[j - 2] && typed[i - 2] == meant[j - 1] {
                best = best.min(costs[(i - 2) * width + j - 2] + SWAP + first(i - 2, j - 2));
            }
            costs[i * width + j] = best;
        }
    }
    costs[costs.len() - 1]
}

/// Cost of a letter that stands in one of the two words only.
fn one_side(word: &[char], at: usize) -> f64 {
    let doubled = at > 0 && word[at - 1] == word[at];
    if doubled { DOUBLE } else { OMISSION }
}

fn substitution(typed: char, meant: char) -> f64 {
    let vowel = |c: char| matches!(c, 'a' | 'e' | 'i' | 'o' | 'u' | 'y');
    if neighbours(typed, meant) {
        NEIGHBOUR
    } else if vowel(typed) && vowel(meant) {
        VOWEL
    } else {
        EDIT
    }
}

/// Whether two keys touch.
pub(super) fn neighbours(a: char, b: char) -> bool {
    let place = |c: char| {
        ROWS.iter().zip(0..).find_map(|((row, shift), y)| Some((row.find(c)? as f64 + shift, f64::from(y))))
    };
    match (place(a), place(b)) {
        (Some((ax, ay)), Some((bx, by))) => a != b && (ay - by).abs() <= 1.0 && (ax - bx).abs() <= 1.0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_cost_less_than_edits() {
        let near = |typed: &str, meant: &str, expected: f64| {
            assert!((cost(typed, meant) - expected).abs() < 1e-9, "{typed} {meant}: {}", cost(typed, meant));
        };
        near("sleep", "sleep", 0.0);
        near("sleap", "sleep", VOWEL);
        near("sleeo", "sleep", NEIGHBOUR);
        near("slepe", "sleep", SWAP);
        near("slep", "sleep", DOUBLE);
        near("sleeep", "sleep", DOUBLE);
        near("seep", "sleep", OMISSION);
        near("sleev", "sleep", EDIT);
        near("cleep", "sleep", EDIT + FIRST);
        near("lseep", "sleep", SWAP + FIRST);
        near("", "ab", 2.0 * OMISSION + 2.0 * FIRST);
    }

    #[test]
    fn neighbours_touch() {
        for (a, b, expected) in [
            ('a', 's', true),
            ('q', 'a', true),
            ('g', 'b', true),
            ('a', 'd', false),
            ('q', 'z', false),
            ('a', 'a', false),
        ] {
            assert_eq!((neighbours(a, b), neighbours(b, a)), (expected, expected), "{a} {b}");
        }
    }
}
