//! Rust source taken apart, as far as the rules need it.

/// A source text in three layers that have the same lines.
#[derive(Debug, Default)]
pub struct Source {
    /// The code, with comments gone and literals emptied.
    pub code: String,
    /// The text of each string literal and the line (from 1) on which it begins.
    pub literals: Vec<(usize, String)>,
}

impl Source {
    /// Takes `text` apart. It must be a text that compiles; of any other, something comes out.
    pub fn of(text: &str) -> Self {
        let mut source = Self::default();
        let mut rest = text;
        let mut line = 1;
        while let Some(next) = rest.chars().next() {
            let taken = if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                comment(rest)
            } else if let Some((length, literal)) = raw_string(rest, &source.code) {
                source.literals.push((line, literal.to_owned()));
                length
            } else if next == '"' {
                let length = string(rest);
                let inner = rest.get(1..length.saturating_sub(1)).unwrap_or_default();
                source.literals.push((line, inner.to_owned()));
                source.code.push_str("\"\"");
                length
            } else if let Some(length) = character(rest) {
                source.code.push_str("' '");
                length
            } else {
                source.code.push(next);
                line += usize::from(next == '\n');
                rest = &rest[next.len_utf8()..];
                continue;
            };
            let (skipped, left) = rest.split_at(taken);
            let lines = skipped.matches('\n').count();
            source.code.extend(std::iter::repeat_n('\n', lines)); // So that lines stay themselves.
            line += lines;
            rest = left;
        }
        source
    }

    /// The lines (from 1) of the code on which `word` stands as a word.
    pub fn lines_with_word(&self, word: &str) -> Vec<usize> {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let has = |line: &str| line.split(|c| !is_part(c)).any(|part| part == word);
        self.lines_where(has)
    }

    /// The lines (from 1) of the code that contain `text`.
    pub fn lines_with(&self, text: &str) -> Vec<usize> {
        self.lines_where(|line| line.contains(text))
    }

    /// The lines (from 1) of the code that `wanted` likes.
    pub fn lines_where(&self, wanted: impl Fn(&str) -> bool) -> Vec<usize> {
        let lines = self.code.lines().enumerate();
        lines.filter(|(_, line)| wanted(line)).map(|(number, _)| number + 1).collect()
    }
}

/// The length of the block comment that `text` begins with; they nest.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'/', Some(b'*')) => (depth, at) = (depth + 1, at + 2),
            (b'*', Some(b'/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The length of the string literal that `text` begins with, quotes included.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length and content of the raw string that `text` begins with, if it does. `before` is the code
/// so far: an `r` that ends a name begins no literal.
fn raw_string<'a>(text: &'a str, before: &str) -> Option<(usize, &'a str)> {
    let before = before.strip_suffix(['b', 'c']).unwrap_or(before);
    if before.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let after = text.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let content = after.get(hashes..)?.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = content.find(&end)?;
    Some((1 + hashes + 1 + length + end.len(), &content[..length]))
}

/// The length of the character literal that `text` begins with; `None` for a lifetime.
fn character(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('\'')?;
    if inner.starts_with('\\') {
        let end = inner.char_indices().skip(2).find(|(_, c)| *c == '\'')?.0;
        return Some(1 + end + 1);
    }
    let first = inner.chars().next()?;
    inner[first.len_utf8()..].starts_with('\'').then_some(1 + first.len_utf8() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_literals_are_kept_apart_and_lines_stay() {
        let source = Source::of(
            "//! unsafe\nlet a = \"un\\\"safe\"; /* unsafe /* \n */ */ let r = 'x';\n\
             fn f<'a>(c: char) { c == '\"' } let raw = r#\"a \"quoted\" unsafe\"#;\nunsafe {}",
        );
        assert_eq!(source.lines_with_word("unsafe"), [5], "{}", source.code);
        let literals = [(2, "un\\\"safe".to_owned()), (4, "a \"quoted\" unsafe".to_owned())];
        assert_eq!(source.literals, literals);
    }

    #[test]
    fn a_word_is_not_found_inside_another() {
        let source = Source::of("unsafe_code();\nnot_unsafe();\nb.unsafe_();");
        assert_eq!(source.lines_with_word("unsafe"), [0; 0]);
    }
}
