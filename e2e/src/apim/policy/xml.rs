//! Reads policy documents as the service does: XML whose expressions may hold raw quotes and angle brackets.
//! In: the text of a policy document and its format. Out: a tree of elements, or what is wrong and where.

/// `xml`: a well-formed XML document. `rawxml`: expressions stand as they are, not encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Xml,
    Raw,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Element(Element),
    Text(String),
    Comment(String),
}

impl Element {
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn children(&self) -> impl Iterator<Item = &Element> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) | Node::Comment(_) => None,
        })
    }

    pub(crate) fn child(&self, name: &str) -> Option<&Element> {
        self.children().find(|child| child.name == name)
    }

    /// All text directly below, trimmed.
    pub(crate) fn text(&self) -> String {
        let parts = self.nodes.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Element(_) | Node::Comment(_) => None,
        });
        parts.collect::<String>().trim().to_owned()
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message} Line {line}, position {column}.")]
pub(crate) struct XmlError {
    pub(crate) message: String,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    format: Format,
}

pub(crate) fn parse(text: &str, format: Format) -> Result<Element, XmlError> {
    let mut reader = Reader { text, at: 0, format };
    reader.skip_prolog()?;
    let root = reader.element()?;
    reader.skip_prolog()?;
    if reader.at < text.len() {
        return Err(reader.error("There are multiple root elements."));
    }
    Ok(root)
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn position(&self, at: usize) -> (usize, usize) {
        let before = &self.text[..at.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        (line, before.chars().rev().take_while(|c| *c != '\n').count() + 1)
    }

    fn error(&self, message: impl Into<String>) -> XmlError {
        let (line, column) = self.position(self.at);
        XmlError {
            message: message.into(),
            line,
            column,
        }
    }

    fn skip_space(&mut self) {
        let trimmed = self.rest().trim_start();
        self.at = self.text.len() - trimmed.len();
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn until(&mut self, token: &str) -> Result<String, XmlError> {
        match self.rest().find(token) {
            Some(length) => {
                let text = self.rest()[..length].to_owned();
                self.at += length + token.len();
                Ok(text)
            }
            None => Err(self.error("Unexpected end of file.")),
        }
    }

    fn skip_prolog(&mut self) -> Result<(), XmlError> {
        loop {
            self.skip_space();
            if self.take("\u{feff}") {
            } else if self.take("<!--") {
                self.until("-->")?;
            } else if self.take("<?") {
                self.until("?>")?;
            } else {
                return Ok(());
            }
        }
    }

    fn name(&mut self) -> Result<String, XmlError> {
        let length = self
            .rest()
            .find(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':')))
            .unwrap_or(self.rest().len());
        let name = self.rest()[..length].to_owned();
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.') {
            let found = self.peek().unwrap_or(' ');
            return Err(self.error(format!("Name cannot begin with the '{found}' character.")));
        }
        self.at += length;
        Ok(name)
    }

    fn element(&mut self) -> Result<Element, XmlError> {
        if !self.take("<") {
            return Err(self.error(if self.rest().is_empty() {
                "Root element is missing."
            } else {
                "Data at the root level is invalid."
            }));
        }
        let (line, column) = self.position(self.at);
        let name = self.name()?;
        let mut element = Element {
            name,
            attributes: Vec::new(),
            nodes: Vec::new(),
            line,
            column,
        };
        loop {
            let before = self.at;
            self.skip_space();
            if self.take("/>") {
                return Ok(element);
            }
            if self.take(">") {
                break;
            }
            if before == self.at {
                let found = self.peek().unwrap_or(' ');
                return Err(self.error(format!(
                    "'{found}' is an unexpected token. The expected token is '>'."
                )));
            }
            let (name, value) = self.attribute()?;
            if element.attribute(&name).is_some() {
                return Err(self.error(format!("'{name}' is a duplicate attribute name.")));
            }
            element.attributes.push((name, value));
        }
        self.content(&mut element)?;
        Ok(element)
    }

    fn attribute(&mut self) -> Result<(String, String), XmlError> {
        let name = self.name()?;
        self.skip_space();
        if !self.take("=") {
            return Err(self.error("The expected token is '='."));
        }
        self.skip_space();
        let quote = match self.peek() {
            Some(quote @ ('"' | '\'')) => quote,
            other => {
                let found = other.unwrap_or(' ');
                return Err(self.error(format!(
                    "'{found}' is an unexpected token. The expected token is '\"' or '''."
                )));
            }
        };
        self.at += 1;
        if self.format == Format::Raw
            && let Some(length) = expression_length(self.rest())
            && self.rest()[length..].starts_with(quote)
        {
            let value = self.rest()[..length].to_owned();
            self.at += length + 1;
            return Ok((name, value));
        }
        let raw = self.until(quote.encode_utf8(&mut [0; 4]))?;
        if raw.contains('<') {
            return Err(self.error("'<', hexadecimal value 0x3C, is an invalid attribute character."));
        }
        Ok((name, self.decode(&raw)?))
    }

    fn content(&mut self, element: &mut Element) -> Result<(), XmlError> {
        loop {
            if self.rest().is_empty() {
                let Element { name, line, .. } = element;
                return Err(self.error(format!(
                    "Unexpected end of file has occurred. The following elements are not closed: {name} (line {line})."
                )));
            }
            if self.take("</") {
                let name = self.name()?;
                if name != element.name {
                    let (start, line, column) = (&element.name, element.line, element.column);
                    return Err(self.error(format!(
                        "The '{start}' start tag on line {line} position {column} does not match the end tag of '{name}'."
                    )));
                }
                self.skip_space();
                if !self.take(">") {
                    return Err(self.error("The expected token is '>'."));
                }
                return Ok(());
            }
            if self.take("<!--") {
                let comment = self.until("-->")?;
                element.nodes.push(Node::Comment(comment));
            } else if self.take("<![CDATA[") {
                let text = self.until("]]>")?;
                element.nodes.push(Node::Text(text));
            } else if self.rest().starts_with('<') {
                let child = self.element()?;
                element.nodes.push(Node::Element(child));
            } else {
                let text = self.text_node()?;
                if !text.trim().is_empty() {
                    element.nodes.push(Node::Text(text));
                }
            }
        }
    }

    fn text_node(&mut self) -> Result<String, XmlError> {
        let lead = self.rest().len() - self.rest().trim_start().len();
        if self.format == Format::Raw
            && let Some(length) = expression_length(&self.rest()[lead..])
        {
            let text = self.rest()[lead..lead + length].to_owned();
            self.at += lead + length;
            return Ok(text);
        }
        let length = self.rest().find('<').unwrap_or(self.rest().len());
        let raw = self.rest()[..length].to_owned();
        self.at += length;
        self.decode(&raw)
    }

    fn decode(&self, raw: &str) -> Result<String, XmlError> {
        let mut out = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some(start) = rest.find('&') {
            out.push_str(&rest[..start]);
            let Some(length) = rest[start..].find(';') else {
                return Err(self.error("An error occurred while parsing EntityName."));
            };
            let entity = &rest[start + 1..start + length];
            let decoded = match entity {
                "lt" => Some('<'),
                "gt" => Some('>'),
                "amp" => Some('&'),
                "quot" => Some('"'),
                "apos" => Some('\''),
                _ => entity
                    .strip_prefix("#x")
                    .map(|hex| u32::from_str_radix(hex, 16))
                    .or_else(|| entity.strip_prefix('#').map(str::parse))
                    .and_then(Result::ok)
                    .and_then(char::from_u32),
            };
            match decoded {
                Some(character) => out.push(character),
                None => return Err(self.error(format!("Reference to undeclared entity '{entity}'."))),
            }
            rest = &rest[start + length + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// Length of a policy expression `@(...)` or `@{...}` at the start of the text, with C# strings taken into account.
fn expression_length(text: &str) -> Option<usize> {
    let mut characters = text.char_indices();
    characters.next().filter(|(_, c)| *c == '@')?;
    let (_, open) = characters.next()?;
    let close = match open {
        '(' => ')',
        '{' => '}',
        _ => return None,
    };
    let mut depth = 1usize;
    while let Some((at, character)) = characters.next() {
        match character {
            '"' | '\'' => {
                let mut escaped = false;
                for (_, inner) in characters.by_ref() {
                    match inner {
                        '\\' if !escaped => escaped = true,
                        inner if inner == character && !escaped => break,
                        _ => escaped = false,
                    }
                }
            }
            c if c == open => depth += 1,
            c if c == close => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}
