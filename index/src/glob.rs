//! Patterns of paths, as `.gitignore` and shells have them, over bytes.
//!
//! | in a pattern | matches |
//! | --- | --- |
//! | `*` | any bytes but `/`, or none |
//! | `?` | one character but `/` |
//! | `[a-z]`, `[!a-z]` | one byte of the class, or one that is not of it and no `/` |
//! | `**` as a whole component | any number of components, or none; at the end one at least |
//! | `\` | the next byte as it is; `\/` is `/` |
//!
//! A pattern that begins with `/` is held against the path from its beginning, any other at every depth. It matches a
//! path and everything below it: `/project/src` is the directory, its files, and theirs.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::key::{Key, Kind, components};

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum GlobError {
    /// There is nothing in it.
    #[error("the pattern is empty")]
    Empty,
    /// A `[` without its `]`.
    #[error("the class that begins at byte {at} has no end")]
    OpenClass {
        /// Where the `[` stands.
        at: usize,
    },
    /// A `\` with nothing behind it.
    #[error("the pattern ends with a backslash")]
    OpenEscape,
}

/// A pattern of paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: String,
    components: Vec<Component>,
    /// What a path that it matches begins with: the components up to the first that is a pattern, each behind one slash.
    prefix: Vec<u8>,
    /// Whether that is all of it.
    is_literal: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Component {
    Literal(Vec<u8>),
    Wild(Vec<Token>),
    AnyDepth,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    AnyCharacter,
    AnyRun,
    Class { is_negated: bool, ranges: Vec<(u8, u8)> },
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// An empty one, or a class or an escape without an end.
    pub fn new(pattern: &str) -> Result<Self, GlobError> {
        if pattern.is_empty() {
            return Err(GlobError::Empty);
        }
        let mut components = Vec::new();
        if !pattern.starts_with('/') {
            components.push(Component::AnyDepth);
        }
        let mut parser = Parser { bytes: pattern.as_bytes(), at: 0 };
        while let Some(tokens) = parser.component()? {
            components.push(Component::of(tokens));
        }
        components.dedup_by(|next, before| *next == Component::AnyDepth && *before == Component::AnyDepth);
        // What is inside of a directory is not the directory.
        if components.last() == Some(&Component::AnyDepth) {
            components.pop();
            components.push(Component::AnyDepth);
            components.push(Component::Wild(vec![Token::AnyRun]));
        }
        let mut prefix = Vec::new();
        for name in components.iter().map_while(Component::literal) {
            prefix.push(b'/');
            prefix.extend_from_slice(name);
        }
        let is_literal =
            !prefix.is_empty() && components.iter().all(|component| component.literal().is_some());
        Ok(Self { text: pattern.to_owned(), components, prefix, is_literal })
    }

    /// Whether the pattern matches a path, or a directory that it lies in.
    pub fn matches(&self, path: &[u8]) -> bool {
        if path.is_empty() {
            return false;
        }
        if self.is_literal
            && let Some(is_match) = is_at_or_below(path, &self.prefix)
        {
            return is_match;
        }
        let mut pattern = self.components.as_slice();
        let mut rest = components(path);
        // Where to go on if it does not work out: behind the last `**`, one component later than before.
        let mut retry: Option<(&[Component], _)> = None;
        loop {
            match pattern.split_first() {
                // What is left of the path is below.
                None => return true,
                Some((Component::AnyDepth, behind)) => {
                    pattern = behind;
                    retry = Some((behind, rest.clone()));
                    continue;
                }
                Some((component, behind)) => {
                    if rest.next().is_some_and(|name| component.matches(name)) {
                        pattern = behind;
                        continue;
                    }
                }
            }
            let Some((behind, later)) = &mut retry else { return false };
            if later.next().is_none() {
                return false;
            }
            pattern = behind;
            rest = later.clone();
        }
    }

    /// Keys that every path has which the pattern matches.
    pub(crate) fn keys(&self) -> Vec<Key> {
        // That a path has the components of the prefix follows from the prefix. But a filter that takes the one for something
        // that it has does not often do so with the others too. What is asked first is what fewest paths have.
        let prefix = (!self.prefix.is_empty()).then(|| Key::text(Kind::Prefix, &self.prefix));
        let names = self.components.iter().rev().filter_map(Component::literal);
        prefix.into_iter().chain(names.map(|name| Key::text(Kind::Component, name))).collect()
    }
}

impl FromStr for Glob {
    type Err = GlobError;

    fn from_str(pattern: &str) -> Result<Self, GlobError> {
        Self::new(pattern)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }

    /// The tokens up to the next slash; `None` at the end.
    fn component(&mut self) -> Result<Option<Vec<Token>>, GlobError> {
        let mut tokens = Vec::new();
        while let Some(byte) = self.next() {
            tokens.push(match byte {
                b'/' if tokens.is_empty() => continue,
                b'/' => break,
                b'*' => Token::AnyRun,
                b'?' => Token::AnyCharacter,
                b'[' => self.class()?,
                b'\\' => match self.next().ok_or(GlobError::OpenEscape)? {
                    // No name has one, so it parts components however it is written.
                    b'/' if tokens.is_empty() => continue,
                    b'/' => break,
                    byte => Token::Byte(byte),
                },
                byte => Token::Byte(byte),
            });
        }
        Ok((!tokens.is_empty()).then_some(tokens))
    }

    fn class(&mut self) -> Result<Token, GlobError> {
        let open = GlobError::OpenClass { at: self.at - 1 };
        let is_negated = matches!(self.bytes.get(self.at), Some(b'!' | b'^'));
        self.at += usize::from(is_negated);
        let mut ranges = Vec::new();
        loop {
            let first = match self.next().ok_or(open)? {
                // The first one is of the class.
                b']' if !ranges.is_empty() => return Ok(Token::Class { is_negated, ranges }),
                b'\\' => self.next().ok_or(GlobError::OpenEscape)?,
                byte => byte,
            };
            let last = match self.bytes.get(self.at..) {
                Some([b'-', last, ..]) if *last != b']' => {
                    self.at += 2;
                    if *last == b'\\' { self.next().ok_or(GlobError::OpenEscape)? } else { *last }
                }
                _ => first,
            };
            ranges.push((first, last));
        }
    }
}

impl Component {
    fn of(tokens: Vec<Token>) -> Self {
        if tokens == [Token::AnyRun, Token::AnyRun] {
            return Self::AnyDepth;
        }
        let byte = |token: &Token| if let Token::Byte(byte) = token { Some(*byte) } else { None };
        match tokens.iter().map(byte).collect() {
            Some(literal) => Self::Literal(literal),
            None => Self::Wild(tokens),
        }
    }

    fn literal(&self) -> Option<&[u8]> {
        if let Self::Literal(name) = self { Some(name) } else { None }
    }

    fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Literal(literal) => literal == name,
            Self::Wild(tokens) => match_tokens(tokens, name),
            Self::AnyDepth => true,
        }
    }
}

/// Whether a path is `dir`, which is written with one slash before each component, or below it. `None` where they part at
/// a slash that is one too many or too few: then it takes the components to tell.
#[inline]
fn is_at_or_below(path: &[u8], dir: &[u8]) -> Option<bool> {
    let same = path.iter().zip(dir).take_while(|(one, other)| one == other).count();
    match (path.get(same), dir.get(same)) {
        (None | Some(b'/'), None) => Some(true),
        (Some(b'/'), Some(_)) | (_, Some(b'/')) => None,
        _ => Some(false),
    }
}

fn match_tokens(tokens: &[Token], name: &[u8]) -> bool {
    let (mut tokens, mut rest) = (tokens, name);
    // Behind the last `*`, and what it has not taken.
    let mut retry: Option<(&[Token], &[u8])> = None;
    loop {
        let advanced = match (tokens.split_first(), rest) {
            (None, []) => return true,
            (Some((Token::AnyRun, behind)), _) => {
                retry = Some((behind, rest));
                Some((behind, rest))
            }
            (Some((token, behind)), [first, others @ ..]) => {
                token.after(*first, others).map(|rest| (behind, rest))
            }
            _ => None,
        };
        (tokens, rest) = match (advanced, &mut retry) {
            (Some(advanced), _) => advanced,
            (None, Some((behind, left))) => {
                let Some((_, others)) = left.split_first() else { return false };
                *left = others;
                (*behind, others)
            }
            (None, None) => return false,
        };
    }
}

impl Token {
    /// What is left behind that which the token matches, which begins with `first`.
    fn after<'n>(&self, first: u8, others: &'n [u8]) -> Option<&'n [u8]> {
        match self {
            Self::Byte(byte) => (*byte == first).then_some(others),
            // In UTF-8 the bytes of a character behind its first one are 10xxxxxx.
            Self::AnyCharacter if first >= 0xC0 => {
                let size = others.iter().take(3).take_while(|byte| *byte & 0xC0 == 0x80).count();
                others.get(size..)
            }
            Self::AnyCharacter => Some(others),
            Self::Class { is_negated, ranges } => {
                let is_in = ranges.iter().any(|(from, to)| (*from..=*to).contains(&first));
                (is_in != *is_negated).then_some(others)
            }
            Self::AnyRun => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Glob::new(pattern).unwrap().matches(path.as_bytes())
    }

    #[test]
    fn patterns_match_what_the_table_says() {
        for (pattern, path, expected) in [
            ("/project/src", "/project/src", true),
            ("/project/src", "/project/src/a/b.rs", true),
            ("/project/src", "/project/src2", false),
            ("/project/src", "/other/project/src", false),
            ("/project/src/", "/project/src", true),
            (r"/project\/src", "/project/src", true),
            (r"/project/\/s\rc", "/project/src", true),
            ("/project/src/**", "/project/src", false),
            ("/project/src/**", "/project/src/a", true),
            ("/project/src/**", "/project/src/a/b", true),
            ("/project/*.rs", "/project/a.rs", true),
            ("/project/*.rs", "/project/src/a.rs", false),
            ("/project/**/*.rs", "/project/src/x/a.rs", true),
            ("/project/**/*.rs", "/project/a.rs", true),
            ("/a/**/b/**/c", "/a/x/b/b/y/z/c", true),
            ("/a/**/b/**/c", "/a/x/c/y/b", false),
            ("*.o", "/project/c/f1.o", true),
            ("*.o", "/project/c.o/f1", true),
            ("*.o", "/project/c/f1.oo", false),
            ("Makefile", "/a/b/Makefile", true),
            ("src/main.rs", "/a/src/main.rs", true),
            ("src/main.rs", "/a/src/x/main.rs", false),
            ("/", "/anything", true),
            ("/a", "a/b", true),
            ("/a//b", "/a/b", true),
            ("/a/b", "//a///b/", true),
            ("/f?", "/fx", true),
            ("/f?", "/f", false),
            ("/f?", "/fü", true),
            ("/f[0-9]", "/f7", true),
            ("/f[0-9]", "/fx", false),
            ("/f[!0-9]", "/fx", true),
            ("/f[]]", "/f]", true),
            ("/f[a\\]]", "/f]", true),
            ("/f[a-]", "/f-", true),
            ("/a\\*b", "/a*b", true),
            ("/a\\*b", "/axb", false),
            ("/a*b*c", "/aXbXbYc", true),
            ("/a*b*c", "/aXbXbY", false),
            ("/*", "/.hidden", true),
            ("/x**y", "/xaay", true),
            ("**", "/a", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} on {path}");
            // What a filter is asked for is in every path that matches.
            let mut keys = Vec::new();
            Key::of_path(path.as_bytes(), |key| keys.push(key));
            let asked = Glob::new(pattern).unwrap().keys();
            assert!(!expected || asked.iter().all(|key| keys.contains(key)), "{pattern} on {path}");
        }
        assert!(!Glob::new("/").unwrap().matches(b""));
    }

    #[test]
    fn what_has_no_end_is_refused() {
        assert_eq!(Glob::new(""), Err(GlobError::Empty));
        assert_eq!(Glob::new("/a[bc"), Err(GlobError::OpenClass { at: 2 }));
        assert_eq!(Glob::new("/a\\"), Err(GlobError::OpenEscape));
        assert_eq!(Glob::new("[a-\\"), Err(GlobError::OpenEscape));
    }

    /// The same by trying out everything.
    fn slow(pattern: &[Component], path: &[&[u8]]) -> bool {
        match pattern.split_first() {
            None => true,
            Some((Component::AnyDepth, behind)) => (0..=path.len()).any(|skip| slow(behind, &path[skip..])),
            Some((component, behind)) => {
                path.split_first().is_some_and(|(name, rest)| component.matches(name) && slow(behind, rest))
            }
        }
    }

    fn text(choices: &[u8], alphabet: &[&str]) -> String {
        choices.iter().take(12).map(|choice| alphabet[usize::from(*choice) % alphabet.len()]).collect()
    }

    quickcheck! {
        fn a_match_is_found_if_there_is_one(pattern: Vec<u8>, path: Vec<u8>) -> bool {
            let pattern = text(&pattern, &["/", "a", "b", "*", "/**/", "?", "/a", "[ab]"]);
            let path = text(&path, &["/", "a", "b", "/a", "/b", "ab"]);
            let Ok(glob) = Glob::new(&pattern) else { return pattern.is_empty() };
            let names: Vec<_> = components(path.as_bytes()).collect();
            glob.matches(path.as_bytes()) == (!path.is_empty() && slow(&glob.components, &names))
        }

        fn a_path_that_matches_has_all_keys_of_the_pattern(pattern: Vec<u8>, path: Vec<u8>) -> bool {
            let pattern = text(&pattern, &["/", "a", "b", "*", "/**/", "/a", "/b"]);
            let path = text(&path, &["/a", "/b", "/ab"]);
            let Ok(glob) = Glob::new(&pattern) else { return true };
            let mut keys = Vec::new();
            Key::of_path(path.as_bytes(), |key| keys.push(key));
            !glob.matches(path.as_bytes()) || glob.keys().iter().all(|key| keys.contains(key))
        }
    }
}
