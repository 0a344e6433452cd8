//! Writes policy documents as the service returns them: re-indented with tabs and CRLF.
//! In: a tree of elements and the asked format. Out: text.

use super::xml::{Element, Format, Node};

pub(crate) fn write(root: &Element, format: Format) -> String {
    let mut out = String::new();
    element(&mut out, root, 0, format);
    out
}

fn indent(out: &mut String, depth: usize) {
    if !out.is_empty() {
        out.push_str("\r\n");
    }
    out.extend(std::iter::repeat_n('\t', depth));
}

fn element(out: &mut String, element: &Element, depth: usize, format: Format) {
    indent(out, depth);
    out.push('<');
    out.push_str(&element.name);
    for (name, value) in &element.attributes {
        out.push(' ');
        out.push_str(name);
        out.push_str("=\"");
        out.push_str(&encode(value, format, true));
        out.push('"');
    }
    if element.nodes.is_empty() {
        out.push_str(" />");
        return;
    }
    out.push('>');
    let inline = element.nodes.iter().all(|node| matches!(node, Node::Text(_)));
    for node in &element.nodes {
        match node {
            Node::Text(text) => out.push_str(&encode(text, format, false)),
            Node::Comment(comment) => {
                indent(out, depth + 1);
                out.push_str("<!--");
                out.push_str(comment);
                out.push_str("-->");
            }
            Node::Element(child) => self::element(out, child, depth + 1, format),
        }
    }
    if !inline {
        indent(out, depth);
    }
    out.push_str("</");
    out.push_str(&element.name);
    out.push('>');
}

/// Expressions stay as they are in the raw format; everything else is encoded as XML.
fn encode(text: &str, format: Format, quoted: bool) -> String {
    let trimmed = text.trim_start();
    if format == Format::Raw && (trimmed.starts_with("@(") || trimmed.starts_with("@{")) {
        return text.to_owned();
    }
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    if quoted { text.replace('"', "&quot;") } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::xml::parse;
    use super::*;

    /// Recorded against the service: aso-2024-05-01, seq 78.
    #[test]
    fn indents_like_the_service() {
        let sent = "<policies><inbound /><backend><forward-request /></backend><outbound /></policies>";
        let root = parse(sent, Format::Xml).unwrap();
        let back = "<policies>\r\n\t<inbound />\r\n\t<backend>\r\n\t\t<forward-request />\r\n\t</backend>\r\n\t<outbound />\r\n</policies>";
        assert_eq!(write(&root, Format::Xml), back);
        assert_eq!(write(&parse(back, Format::Xml).unwrap(), Format::Xml), back);
    }

    #[test]
    fn raw_quotes_are_for_rawxml_only() {
        let raw = r#"<when condition="@(context.Request.Method == "GET" && 1 < 2)"><a>@{ return "<b>"; }</a></when>"#;
        let root = parse(raw, Format::Raw).unwrap();
        assert_eq!(
            root.attribute("condition"),
            Some(r#"@(context.Request.Method == "GET" && 1 < 2)"#)
        );
        assert_eq!(
            root.child("a").map(Element::text).as_deref(),
            Some(r#"@{ return "<b>"; }"#)
        );
        assert!(parse(raw, Format::Xml).is_err());
        let encoded = write(&root, Format::Xml);
        assert!(
            encoded.contains("&quot;GET&quot; &amp;&amp; 1 &lt; 2"),
            "{encoded}"
        );
        assert_eq!(parse(&encoded, Format::Xml).unwrap().attributes, root.attributes);
        assert!(write(&root, Format::Raw).contains(r#"== "GET" && 1 < 2"#));
    }

    #[test]
    fn broken_documents_are_refused_with_their_place() {
        for (text, part) in [
            ("", "Root element is missing"),
            ("<a><b></a>", "does not match the end tag of 'a'"),
            ("<a", "unexpected token"),
            ("<a x=1/>", "unexpected token"),
            ("<a x='1' x='2'/>", "duplicate attribute"),
            ("<a/><b/>", "multiple root elements"),
            ("<a>&nbsp;</a>", "undeclared entity 'nbsp'"),
        ] {
            let error = parse(text, Format::Xml).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
