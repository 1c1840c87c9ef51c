//! The median of several runs, field by field.

use serde_json::{Map, Value};

/// The median of some values of one shape: of each number in them by itself. What is no number is that of the first,
/// and what is missing in one of them is missing.
pub fn of(values: Vec<Value>) -> Value {
    let Some(first) = values.first().cloned() else { return Value::Null };
    if values.iter().any(Value::is_null) {
        return Value::Null;
    }
    match first {
        Value::Object(fields) => {
            let of_field = |name: String| {
                let values =
                    values.iter().map(|value| value.get(&name).cloned().unwrap_or_default()).collect();
                (name, of(values))
            };
            Value::Object(fields.into_iter().map(|(name, _)| name).map(of_field).collect::<Map<_, _>>())
        }
        Value::Array(elements) => {
            let of_element = |index: usize| {
                of(values.iter().map(|value| value.get(index).cloned().unwrap_or_default()).collect())
            };
            Value::Array((0..elements.len()).map(of_element).collect())
        }
        Value::Number(_) => {
            let whole: Option<Vec<u64>> = values.iter().map(Value::as_u64).collect();
            if let Some(mut whole) = whole {
                whole.sort_unstable();
                let (low, high) = middle(&whole);
                return Value::from(low + (high - low) / 2);
            }
            let mut numbers: Vec<f64> = values.iter().filter_map(Value::as_f64).collect();
            numbers.sort_by(f64::total_cmp);
            let (low, high) = middle(&numbers);
            Value::from(low + (high - low) / 2.0)
        }
        other => other,
    }
}

/// The two in the middle, of an odd number the same one twice.
fn middle<T: Copy + Default>(sorted: &[T]) -> (T, T) {
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    (at((sorted.len().max(1) - 1) / 2), at(sorted.len() / 2))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_number_is_the_median_of_its_own() {
        let runs = vec![
            json!({ "name": "x", "rate": 2.5, "call": { "p50": 7, "max": 900 }, "rss": [1, 2], "scan": 1.0 }),
            json!({ "name": "x", "rate": 9.0, "call": { "p50": 6, "max": 100 }, "rss": [3, 0], "scan": null }),
            json!({ "name": "x", "rate": 1, "call": { "p50": 8, "max": 500 }, "rss": [2, 9], "scan": 3.0 }),
        ];
        let expected = json!({
            "name": "x", "rate": 2.5, "call": { "p50": 7, "max": 500 }, "rss": [2, 2], "scan": null
        });
        assert_eq!(of(runs), expected);
    }

    #[test]
    fn the_median_of_two_lies_between_them() {
        assert_eq!(of(vec![json!(10), json!(20)]), json!(15));
        assert_eq!(of(vec![json!(1.0), json!(2)]), json!(1.5));
        assert_eq!(of(vec![]), Value::Null);
    }
}
