//! A small part of the C# that policy expressions are written in: literals, members of `context`, comparisons,
//! `&&`, `||`, `!`, `+`, `??` and `? :`, a few string methods, and the types of `types`.
//! In: the text of an attribute or element, and the context. Out: its value; what is not understood is an error
//! at run time, never a guess.

use super::operators::{compare, logic, method};
use super::types;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Flag(bool),
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
    /// With its key.
    Hmac(Vec<u8>),
    /// Seconds since 1970.
    Time(i64),
}

impl Value {
    pub(crate) fn text(&self) -> String {
        match self {
            Value::Null => String::new(),
            Value::Flag(true) => "True".into(),
            Value::Flag(false) => "False".into(),
            Value::Number(number) => number.to_string(),
            Value::Text(text) => text.clone(),
            // What .NET prints of an array, and of an object that says nothing else.
            Value::Bytes(_) => "System.Byte[]".into(),
            Value::Hmac(_) => "System.Security.Cryptography.HMACSHA256".into(),
            Value::Time(seconds) => seconds.to_string(),
        }
    }
}

/// Members of `context`, by their path such as `context.Request.Method`.
pub(crate) trait Context {
    fn property(&self, path: &str) -> Option<Value>;
    fn call(&self, path: &str, arguments: &[Value]) -> Option<Value>;
    fn named_value(&self, name: &str) -> Option<String>;
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the stand-in does not understand the policy expression {0:?}")]
pub(crate) struct NotUnderstood(String);

/// Value of an attribute or element: an expression, or text in which named values are replaced.
pub(crate) fn evaluate(text: &str, context: &dyn Context) -> Result<Value, NotUnderstood> {
    let text = replace_named_values(text.trim(), context);
    let body = if let Some(body) = text.strip_prefix("@(").and_then(|rest| rest.strip_suffix(')')) {
        body
    } else if let Some(body) = text.strip_prefix("@{").and_then(|rest| rest.strip_suffix('}')) {
        let statement = body
            .trim()
            .strip_prefix("return ")
            .and_then(|rest| rest.strip_suffix(';'));
        statement
            .filter(|one| !one.contains(';'))
            .ok_or_else(|| NotUnderstood(text.clone()))?
    } else {
        return Ok(Value::Text(text));
    };
    let mut parser = Parser { text: body, context };
    let value = parser.ternary();
    parser.space();
    match value {
        Some(value) if parser.text.is_empty() => Ok(value),
        _ => Err(NotUnderstood(text)),
    }
}

pub(crate) fn evaluate_text(text: &str, context: &dyn Context) -> Result<String, NotUnderstood> {
    evaluate(text, context).map(|value| value.text())
}

pub(crate) fn evaluate_flag(text: &str, context: &dyn Context) -> Result<bool, NotUnderstood> {
    match evaluate(text, context)? {
        Value::Flag(flag) => Ok(flag),
        Value::Text(word) if word.eq_ignore_ascii_case("true") => Ok(true),
        Value::Text(word) if word.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(NotUnderstood(text.into())),
    }
}

fn replace_named_values(text: &str, context: &dyn Context) -> String {
    let mut out = text.to_owned();
    for name in super::check::named_values(text) {
        if let Some(value) = context.named_value(name) {
            out = out.replace(&format!("{{{{{name}}}}}"), &value);
        }
    }
    out
}

/// Parses and evaluates in one go; `None` is "not understood". Both sides of `&&` and `||` are evaluated, which
/// makes no difference since nothing here has side effects.
struct Parser<'a> {
    text: &'a str,
    context: &'a dyn Context,
}

impl Parser<'_> {
    fn space(&mut self) {
        self.text = self.text.trim_start();
    }

    fn take(&mut self, token: &str) -> bool {
        self.space();
        match self.text.strip_prefix(token) {
            Some(rest) => {
                self.text = rest;
                true
            }
            None => false,
        }
    }

    fn ternary(&mut self) -> Option<Value> {
        let condition = self.coalesce()?;
        self.space();
        if self.text.starts_with("?.") || !self.take("?") {
            return Some(condition);
        }
        let yes = self.ternary()?;
        if !self.take(":") {
            return None;
        }
        let no = self.ternary()?;
        match condition {
            Value::Flag(true) => Some(yes),
            Value::Flag(false) => Some(no),
            _ => None,
        }
    }

    fn coalesce(&mut self) -> Option<Value> {
        let left = self.or()?;
        if self.take("??") {
            let right = self.coalesce()?;
            return Some(if left == Value::Null { right } else { left });
        }
        Some(left)
    }

    fn or(&mut self) -> Option<Value> {
        let mut left = self.and()?;
        while self.take("||") {
            left = logic(&left, &self.and()?, |a, b| a || b)?;
        }
        Some(left)
    }

    fn and(&mut self) -> Option<Value> {
        let mut left = self.comparison()?;
        while self.take("&&") {
            left = logic(&left, &self.comparison()?, |a, b| a && b)?;
        }
        Some(left)
    }

    fn comparison(&mut self) -> Option<Value> {
        let left = self.sum()?;
        for operator in ["==", "!=", "<=", ">=", "<", ">"] {
            if self.take(operator) {
                let right = self.sum()?;
                return compare(operator, &left, &right).map(Value::Flag);
            }
        }
        Some(left)
    }

    fn sum(&mut self) -> Option<Value> {
        let mut left = self.unary()?;
        while self.take("+") {
            let right = self.unary()?;
            left = match (&left, &right) {
                (Value::Number(a), Value::Number(b)) => Value::Number(a.checked_add(*b)?),
                _ => Value::Text(left.text() + &right.text()),
            };
        }
        Some(left)
    }

    fn unary(&mut self) -> Option<Value> {
        self.space();
        if !self.text.starts_with("!=") && self.take("!") {
            return match self.unary()? {
                Value::Flag(flag) => Some(Value::Flag(!flag)),
                _ => None,
            };
        }
        for cast in ["(string)", "(int)", "(bool)"] {
            if self.take(cast) {
                return self.unary();
            }
        }
        let value = if self.take("(") {
            let inner = self.ternary()?;
            if !self.take(")") {
                return None;
            }
            inner
        } else if self.text.starts_with('"') {
            Value::Text(self.string()?)
        } else if self.text.starts_with(|c: char| c.is_ascii_digit()) {
            Value::Number(self.number()?)
        } else {
            return self.chain();
        };
        self.methods(value)
    }

    fn string(&mut self) -> Option<String> {
        let mut out = String::new();
        let mut characters = self.text.char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.text = &self.text[at + 1..];
                    return Some(out);
                }
                '\\' => out.push(match characters.next()?.1 {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    other => other,
                }),
                other => out.push(other),
            }
        }
        None
    }

    fn number(&mut self) -> Option<i64> {
        let end = self
            .text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(self.text.len());
        let number = self.text[..end].parse().ok();
        self.text = &self.text[end..];
        number
    }

    fn word(&mut self) -> Option<String> {
        self.space();
        let end = self
            .text
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(self.text.len());
        let word = self.text[..end].to_owned();
        self.text = &self.text[end..];
        (!word.is_empty()).then_some(word)
    }

    fn arguments(&mut self, close: &str) -> Option<Vec<Value>> {
        let mut arguments = Vec::new();
        if self.take(close) {
            return Some(arguments);
        }
        loop {
            arguments.push(self.ternary()?);
            if self.take(close) {
                return Some(arguments);
            }
            if !self.take(",") {
                return None;
            }
        }
    }

    /// `true`, `null`, or a path that starts at `context`.
    fn chain(&mut self) -> Option<Value> {
        let mut path = self.word()?;
        match path.as_str() {
            "true" => return Some(Value::Flag(true)),
            "false" => return Some(Value::Flag(false)),
            "null" => return Some(Value::Null),
            "new" => return self.made(),
            _ => {}
        }
        loop {
            let property = self.context.property(&path).or_else(|| types::property(&path));
            if let Some(value) = property {
                return self.methods(value);
            }
            if self.take("?.") || self.take(".") {
                path = format!("{path}.{}", self.word()?);
                self.generic();
            } else if self.take("(") {
                let arguments = self.arguments(")")?;
                let value = types::call(&path, &arguments).or_else(|| self.context.call(&path, &arguments));
                return self.methods(value?);
            } else if self.take("[") {
                let arguments = self.arguments("]")?;
                let value = self.context.call(&path, &arguments)?;
                return self.methods(value);
            } else {
                return None;
            }
        }
    }

    /// What follows `new`.
    fn made(&mut self) -> Option<Value> {
        let mut path = self.word()?;
        while self.take(".") {
            path = format!("{path}.{}", self.word()?);
        }
        if !self.take("(") {
            return None;
        }
        let arguments = self.arguments(")")?;
        let value = types::make(&path, &arguments)?;
        self.methods(value)
    }

    /// Skips the type in `GetValueOrDefault<string>(...)`.
    fn generic(&mut self) {
        for kind in ["<string>", "<int>", "<bool>"] {
            if self.take(kind) {
                return;
            }
        }
    }

    fn methods(&mut self, mut value: Value) -> Option<Value> {
        loop {
            self.space();
            let rest = self.text;
            if !(self.take("?.") || self.take(".")) {
                return Some(value);
            }
            let name = self.word()?;
            if name == "Length" {
                value = Value::Number(i64::try_from(value.text().chars().count()).ok()?);
                continue;
            }
            if !self.take("(") {
                if value == Value::Null {
                    continue;
                }
                self.text = rest;
                return None;
            }
            let arguments = self.arguments(")")?;
            value = match &value {
                Value::Null => Value::Null,
                Value::Bytes(_) | Value::Hmac(_) | Value::Time(_) => {
                    types::method(&value, &name, &arguments)?
                }
                Value::Flag(_) | Value::Number(_) | Value::Text(_) => {
                    method(&value.text(), &name, &arguments)?
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Context for Fixed {
        fn property(&self, path: &str) -> Option<Value> {
            match path {
                "context.Request.Method" => Some(Value::Text("GET".into())),
                "context.Subscription.Id" => Some(Value::Null),
                "context.Response.StatusCode" => Some(Value::Number(404)),
                _ => None,
            }
        }

        fn call(&self, path: &str, arguments: &[Value]) -> Option<Value> {
            (path == "context.Request.Headers.GetValueOrDefault")
                .then(|| arguments.get(1).cloned().unwrap_or(Value::Null))
        }

        fn named_value(&self, name: &str) -> Option<String> {
            (name == "host").then(|| "example.com".into())
        }
    }

    #[test]
    fn the_understood_part() {
        for (text, expected) in [
            ("plain {{host}}", "plain example.com"),
            (r#"@(context.Request.Method == "GET")"#, "True"),
            (
                r#"@(context.Request.Method != "GET" || context.Response.StatusCode >= 400)"#,
                "True",
            ),
            (r#"@(context.Subscription?.Id ?? "anonymous")"#, "anonymous"),
            (
                r#"@(context.Request.Headers.GetValueOrDefault("Mcp-Session-Id","unknown"))"#,
                "unknown",
            ),
            (r#"@(context.Request.Method.ToLower() + "-" + 1)"#, "get-1"),
            (r#"@(!(1 < 2) ? "a" : "b")"#, "b"),
            (r"@{ return context.Request.Method; }", "GET"),
            (
                r#"@((string)context.Request.Method.Replace("G", "g").Trim())"#,
                "gET",
            ),
        ] {
            assert_eq!(evaluate_text(text, &Fixed).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn the_rest_is_an_error() {
        for text in [
            "@(Guid.NewGuid())",
            "@(context.Nothing)",
            "@{ var x = 1; return x; }",
            "@(1 +)",
            "@(\"a)",
        ] {
            assert!(evaluate(text, &Fixed).is_err(), "{text}");
        }
    }
}
