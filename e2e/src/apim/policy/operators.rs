//! Operators and string methods of policy expressions.
//! In: values. Out: a value, or nothing where C# would not compile or the stand-in does not know it.

use super::expression::Value;

pub(super) fn method(text: &str, name: &str, arguments: &[Value]) -> Option<Value> {
    let first = || arguments.first().map(Value::text);
    Some(match name {
        "ToString" => Value::Text(text.into()),
        "ToLower" | "ToLowerInvariant" => Value::Text(text.to_lowercase()),
        "ToUpper" | "ToUpperInvariant" => Value::Text(text.to_uppercase()),
        "Trim" => Value::Text(text.trim().into()),
        "Contains" => Value::Flag(text.contains(&first()?)),
        "StartsWith" => Value::Flag(text.starts_with(&first()?)),
        "EndsWith" => Value::Flag(text.ends_with(&first()?)),
        "Equals" => Value::Flag(text == first()?),
        "Replace" => Value::Text(text.replace(&first()?, &arguments.get(1)?.text())),
        _ => return None,
    })
}

pub(super) fn logic(left: &Value, right: &Value, operation: fn(bool, bool) -> bool) -> Option<Value> {
    match (left, right) {
        (Value::Flag(a), Value::Flag(b)) => Some(Value::Flag(operation(*a, *b))),
        _ => None,
    }
}

pub(super) fn compare(operator: &str, left: &Value, right: &Value) -> Option<bool> {
    match operator {
        "==" => Some(left == right),
        "!=" => Some(left != right),
        _ => {
            let (Value::Number(a), Value::Number(b)) = (left, right) else {
                return None;
            };
            Some(match operator {
                "<=" => a <= b,
                ">=" => a >= b,
                "<" => a < b,
                _ => a > b,
            })
        }
    }
}
