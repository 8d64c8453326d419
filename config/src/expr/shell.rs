//! Where in a POSIX shell script an expression stands, so that the reference to its variable can be quoted rightly.
//!
//! Safety does not rest on this alone: a value travels in the environment and is never part of the script, so a place that
//! is misjudged costs a wrong word, not an execution. What is refused here are the places where the shell itself would
//! evaluate a value, or would not look at the variable at all.

use serde::Deserialize;

use super::template::Segment;

/// What reads the text of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Shell {
    /// `sh -c`.
    Sh,
    /// `bash -c`.
    Bash,
    /// `cmd /c`, on Windows.
    Cmd,
    /// `powershell -Command` on Windows, `pwsh -Command` elsewhere.
    Powershell,
}

impl Shell {
    /// The command for a script; none where the worker's own shell is this one.
    pub fn argv(self, script: &str, windows: bool) -> Option<Vec<String>> {
        let words: &[&str] = match (self, windows) {
            (Shell::Sh, false) | (Shell::Cmd, true) => return None,
            (Shell::Sh, true) => &["sh", "-c"],
            (Shell::Bash, _) => &["bash", "-c"],
            (Shell::Cmd, false) => &["cmd", "/d", "/c"],
            (Shell::Powershell, true) => &["powershell", "-NoProfile", "-NonInteractive", "-Command"],
            (Shell::Powershell, false) => &["pwsh", "-NoProfile", "-NonInteractive", "-Command"],
        };
        Some(words.iter().copied().chain([script]).map(str::to_owned).collect())
    }

    /// What stands in its script for a variable: alone, and within double quotes.
    pub(super) fn reference(self, name: &str, quoted: bool) -> String {
        match (self, quoted) {
            (Shell::Powershell, _) => format!("${{env:{name}}}"),
            (_, true) => format!("${{{name}}}"),
            (_, false) => format!("\"${{{name}}}\""),
        }
    }
}

const CMD: Place = Place::Refused {
    message: "`cmd` would read the value as a part of the command",
    help: "use shell = \"powershell\", or give the value by `env` and quote it",
};
const POWERSHELL_SINGLE: Place = Place::Refused {
    message: "inside single quotes PowerShell would read the variable's name",
    help: "use double quotes, or end the single quotes before the expression",
};
const POWERSHELL_AGAIN: Place = Place::Refused {
    message: "this script has a command that reads its arguments again as a command",
    help: "leave Invoke-Expression, `powershell -Command` and `cmd /c` out of steps with expressions; or, if the value is trusted, say raw(…)",
};
/// Words that make PowerShell or another shell read a text again.
const POWERSHELL_EVAL: &[&str] = &[
    "invoke-expression",
    "iex",
    "scriptblock",
    "cmd",
    "cmd.exe",
    "powershell",
    "powershell.exe",
    "pwsh",
    "invoke-command",
    "start-process",
];

/// The place of each expression in a script of any shell, in order.
pub(super) fn places_in(shell: Option<Shell>, segments: &[Segment]) -> Vec<Place> {
    match shell {
        None | Some(Shell::Sh | Shell::Bash) => places(segments),
        Some(Shell::Cmd) => {
            segments.iter().filter(|it| matches!(it, Segment::Expr(..))).map(|_| CMD).collect()
        }
        Some(Shell::Powershell) => powershell_places(segments),
    }
}

/// In PowerShell a variable is expanded everywhere but within single quotes, and never read again as text of the script.
fn powershell_places(segments: &[Segment]) -> Vec<Place> {
    let text: String = segments
        .iter()
        .filter_map(|it| match it {
            Segment::Text(text) => Some(text.as_str()),
            Segment::Expr(..) => None,
        })
        .collect();
    let lower = text.to_lowercase();
    let mut words = lower.split(|it: char| !(it.is_alphanumeric() || it == '-' || it == '.'));
    if words.any(|it| POWERSHELL_EVAL.contains(&it)) {
        return segments
            .iter()
            .filter(|it| matches!(it, Segment::Expr(..)))
            .map(|_| POWERSHELL_AGAIN)
            .collect();
    }
    let (mut places, mut quote, mut escaped, mut comment) = (Vec::new(), None, false, false);
    for segment in segments {
        let Segment::Text(text) = segment else {
            let place = if quote == Some('\'') { POWERSHELL_SINGLE } else { Place::Expanding };
            places.push(if escaped { BACKSLASH } else { place });
            escaped = false;
            continue;
        };
        for char in text.chars() {
            match (quote, char) {
                _ if escaped => escaped = false,
                (None, _) if comment => comment = char != '\n',
                (None | Some('"'), '`') => escaped = true,
                (None, '#') => comment = true,
                (None, '\'' | '"') => quote = Some(char),
                (Some(open), _) if open == char => quote = None,
                _ => {}
            }
        }
    }
    places
}

/// A place of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Unquoted: the reference brings its own double quotes.
    Bare,
    /// Within double quotes or a here-document: the reference stands alone.
    Expanding,
    /// No reference works here.
    Refused {
        /// Why.
        message: &'static str,
        /// What to do.
        help: &'static str,
    },
}

const SINGLE: Place = Place::Refused {
    message: "inside single quotes the shell would read the variable's name",
    help: "use double quotes, or end the single quotes before the expression",
};
const QUOTED_HERE: Place = Place::Refused {
    message: "inside a quoted here-document the shell would read the variable's name",
    help: "write the end mark without quotes, and escape the `$` that are meant as they stand",
};
const HERE_MARK: Place = Place::Refused {
    message: "an expression cannot be the end mark of a here-document",
    help: "write a fixed word",
};
const BACKQUOTE: Place = Place::Refused {
    message: "inside backquotes quoting cannot be relied on",
    help: "write $(…) instead of `…`",
};
const ARITHMETIC: Place = Place::Refused {
    message: "in arithmetic some shells execute what a value says",
    help: "calculate in the expression: ${{ 1 + prop.n }}",
};
const PARAMETER: Place = Place::Refused {
    message: "inside `${…}` quoting cannot be relied on",
    help: "give the value to a variable first, or choose in the expression",
};
const BACKSLASH: Place = Place::Refused {
    message: "a backslash before an expression would undo its protection",
    help: "write $${{ for the characters themselves",
};
const DOUBLE_BRACKET: Place = Place::Refused {
    message: "inside `[[ … ]]` some shells execute what a value says",
    help: "write [ … ], or compare in the expression",
};
const AGAIN: &str =
    "give the value as an argument: sh -c 'echo \"$1\"' _ ${{ … }}; or, if it is trusted, say raw(…)";
const EVAL: Place = Place::Refused { message: "`eval` reads the value again as a command", help: AGAIN };
const SSH: Place = Place::Refused { message: "`ssh` reads the value again as a command", help: AGAIN };
const SH_C: Place = Place::Refused { message: "`sh -c` reads the value again as a command", help: AGAIN };
const BASH_C: Place = Place::Refused { message: "`bash -c` reads the value again as a command", help: AGAIN };

/// Words after which a command still begins.
const BEFORE_COMMAND: &[&str] = &[
    "then", "do", "else", "elif", "if", "while", "until", "!", "{", "time", "exec", "env", "sudo", "nice",
    "nohup", "command",
];

/// A value that is known when the configuration loads as it can stand in the script itself; none where a variable does better.
pub(super) fn quoted(value: &str, place: Option<Place>) -> Option<String> {
    let plain = |it: char| it.is_ascii_alphanumeric() || "_-./:=@%+,".contains(it);
    match place? {
        BACKSLASH | HERE_MARK => None,
        _ if !value.is_empty() && value.chars().all(plain) => Some(value.to_owned()),
        SINGLE => Some(value.replace('\'', r"'\''")),
        QUOTED_HERE if !value.contains('\n') => Some(value.to_owned()),
        _ => None,
    }
}

#[derive(Clone, Copy)]
enum Symbol {
    Char(char),
    Expr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    Double,
    Paren,
    Brace,
    Backquote,
    /// With the count of open parentheses.
    Arithmetic(usize),
}

struct Here {
    mark: String,
    strip_tabs: bool,
    quoted: bool,
}

struct Scanner {
    symbols: Vec<Symbol>,
    at: usize,
    stack: Vec<Frame>,
    pending: Vec<Here>,
    places: Vec<Place>,
    /// The unquoted word being read, and how the command around it treats its arguments.
    word: String,
    word_start: bool,
    at_command: bool,
    shell: Option<Place>,
    next_word: Option<Place>,
    whole_command: Option<Place>,
    double_bracket: bool,
}

/// The place of each expression, in order.
pub(super) fn places(segments: &[Segment]) -> Vec<Place> {
    let symbols = segments.iter().flat_map(|segment| match segment {
        Segment::Text(text) => text.chars().map(Symbol::Char).collect::<Vec<_>>(),
        Segment::Expr(..) => vec![Symbol::Expr],
    });
    let mut scanner = Scanner {
        symbols: symbols.collect(),
        at: 0,
        stack: Vec::new(),
        pending: Vec::new(),
        places: Vec::new(),
        word: String::new(),
        word_start: true,
        at_command: true,
        shell: None,
        next_word: None,
        whole_command: None,
        double_bracket: false,
    };
    scanner.run();
    scanner.places
}

impl Scanner {
    fn peek(&self, ahead: usize) -> Option<Symbol> {
        self.symbols.get(self.at + ahead).copied()
    }

    fn char(&self, ahead: usize) -> Option<char> {
        match self.peek(ahead) {
            Some(Symbol::Char(it)) => Some(it),
            _ => None,
        }
    }

    fn run(&mut self) {
        while self.peek(0).is_some() {
            match self.stack.last().copied() {
                None | Some(Frame::Paren) => self.command(),
                Some(Frame::Double) => self.double(),
                Some(Frame::Brace) => self.brace(),
                Some(Frame::Backquote) => self.backquote(),
                Some(Frame::Arithmetic(open)) => self.arithmetic(open),
            }
        }
    }

    /// Notes the place of an expression and goes past it; `place` holds unless something around it refuses.
    fn expression(&mut self, place: Place) {
        let around = self.stack.iter().find_map(|frame| match frame {
            Frame::Arithmetic(_) => Some(ARITHMETIC),
            Frame::Backquote => Some(BACKQUOTE),
            _ => None,
        });
        let command = self.whole_command.or(self.next_word).or(self.double_bracket.then_some(DOUBLE_BRACKET));
        let refused = matches!(place, Place::Refused { .. });
        self.places.push(if refused { place } else { around.or(command).unwrap_or(place) });
        self.word_start = false;
        self.word.push('\u{fffd}');
        self.at += 1;
    }

    fn command(&mut self) {
        let Some(char) = self.char(0) else { return self.expression(Place::Bare) };
        match char {
            ' ' | '\t' => self.end_word(),
            '\n' | ';' | '&' | '|' => {
                self.end_command();
                if char == '\n' {
                    self.at += 1;
                    return self.here_bodies();
                }
            }
            '#' if self.word_start => {
                while self.char(0) != Some('\n') && self.peek(0).is_some() {
                    if self.char(0).is_some() { self.at += 1 } else { self.expression(Place::Bare) }
                }
                return;
            }
            '(' => {
                let arithmetic = self.word_start && self.char(1) == Some('(');
                self.end_command();
                self.stack.push(if arithmetic { Frame::Arithmetic(2) } else { Frame::Paren });
                self.at += usize::from(arithmetic);
            }
            ')' => {
                self.end_command();
                self.stack.pop();
                self.at_command = self.stack.is_empty();
            }
            '<' if self.char(1) == Some('<') && self.char(2) == Some('<') => self.at += 2,
            '<' if self.char(1) == Some('<') => return self.here_mark(),
            '<' | '>' => self.end_word(),
            _ => {
                self.word_start = false;
                return self.quoting(char);
            }
        }
        self.at += 1;
    }

    /// Characters that mean the same unquoted wherever they stand.
    fn quoting(&mut self, char: char) {
        match char {
            '\\' => self.backslash(),
            '\'' => self.single(),
            '"' => {
                self.stack.push(Frame::Double);
                self.at += 1;
            }
            '`' => {
                self.stack.push(Frame::Backquote);
                self.at += 1;
            }
            '$' => self.dollar(false),
            other => {
                self.word.push(other);
                self.at += 1;
            }
        }
    }

    fn double(&mut self) {
        match self.char(0) {
            None => self.expression(Place::Expanding),
            Some('"') => {
                self.stack.pop();
                self.at += 1;
            }
            Some('\\') => self.backslash(),
            Some('`') => self.quoting('`'),
            Some('$') => self.dollar(true),
            Some(_) => self.at += 1,
        }
    }

    fn brace(&mut self) {
        match self.char(0) {
            None => self.expression(PARAMETER),
            Some('}') => {
                self.stack.pop();
                self.at += 1;
            }
            Some('\'') if self.stack.contains(&Frame::Double) => self.at += 1,
            Some(char) => self.quoting(char),
        }
    }

    fn backquote(&mut self) {
        match self.char(0) {
            None => self.expression(BACKQUOTE),
            Some('\\') => self.backslash(),
            Some(char) => {
                if char == '`' {
                    self.stack.pop();
                }
                self.at += 1;
            }
        }
    }

    fn arithmetic(&mut self, open: usize) {
        let open_after = match self.char(0) {
            None => return self.expression(ARITHMETIC),
            Some('$') => return self.dollar(true),
            Some('(') => open + 1,
            Some(')') => open - 1,
            Some(_) => open,
        };
        self.stack.pop();
        if open_after > 0 {
            self.stack.push(Frame::Arithmetic(open_after));
        }
        self.at += 1;
    }

    fn backslash(&mut self) {
        self.at += 1;
        match self.peek(0) {
            Some(Symbol::Expr) => self.expression(BACKSLASH),
            Some(Symbol::Char(_)) => self.at += 1,
            None => {}
        }
    }

    /// `$` and what it opens. In double quotes `$'` is two plain characters.
    fn dollar(&mut self, quoted: bool) {
        self.at += 1;
        match (self.char(0), self.char(1)) {
            (Some('('), Some('(')) => {
                self.stack.push(Frame::Arithmetic(2));
                self.at += 2;
            }
            (Some('('), _) => {
                self.stack.push(Frame::Paren);
                self.at += 1;
                self.begin_command();
            }
            (Some('{'), _) => {
                self.stack.push(Frame::Brace);
                self.at += 1;
            }
            (Some('\''), _) if !quoted => self.single(),
            _ => self.word.push('$'),
        }
    }

    /// From one single quote to the next.
    fn single(&mut self) {
        self.at += 1;
        loop {
            match self.peek(0) {
                None => return,
                Some(Symbol::Expr) => self.expression(SINGLE),
                Some(Symbol::Char(char)) => {
                    self.at += 1;
                    if char == '\'' {
                        return;
                    }
                    self.word.push(char);
                }
            }
        }
    }

    /// `<<MARK` or `<<-MARK`, in any quoting.
    fn here_mark(&mut self) {
        self.end_word();
        self.at += 2;
        let strip_tabs = self.char(0) == Some('-');
        self.at += usize::from(strip_tabs);
        while matches!(self.char(0), Some(' ' | '\t')) {
            self.at += 1;
        }
        let (mut mark, mut quoted) = (String::new(), false);
        loop {
            match self.peek(0) {
                Some(Symbol::Expr) => self.expression(HERE_MARK),
                Some(Symbol::Char(char)) if !char.is_whitespace() && !";&|<>()".contains(char) => {
                    if matches!(char, '\'' | '"' | '\\') {
                        quoted = true
                    } else {
                        mark.push(char)
                    }
                    self.at += 1;
                }
                _ => break,
            }
        }
        self.word.clear();
        self.pending.push(Here { mark, strip_tabs, quoted });
    }

    /// The bodies of the here-documents that began on the line before.
    fn here_bodies(&mut self) {
        for here in std::mem::take(&mut self.pending) {
            while self.peek(0).is_some() {
                let line = self.here_line(&here);
                let line = if here.strip_tabs { line.trim_start_matches('\t') } else { &line };
                if line == here.mark {
                    break;
                }
            }
        }
        self.begin_command();
    }

    fn here_line(&mut self, here: &Here) -> String {
        let mut line = String::new();
        loop {
            match self.peek(0) {
                None => return line,
                Some(Symbol::Expr) => {
                    line.push('\u{fffd}');
                    self.expression(if here.quoted { QUOTED_HERE } else { Place::Expanding });
                }
                Some(Symbol::Char('\n')) => {
                    self.at += 1;
                    return line;
                }
                Some(Symbol::Char('\\')) if !here.quoted => {
                    line.push('\\');
                    self.backslash();
                }
                Some(Symbol::Char('`')) if !here.quoted => self.nested_in_here(Frame::Backquote, 1),
                Some(Symbol::Char('$')) if !here.quoted && matches!(self.char(1), Some('(' | '{')) => {
                    let (frame, length) = match (self.char(1), self.char(2)) {
                        (Some('('), Some('(')) => (Frame::Arithmetic(2), 3),
                        (Some('('), _) => (Frame::Paren, 2),
                        _ => (Frame::Brace, 2),
                    };
                    self.nested_in_here(frame, length);
                }
                Some(Symbol::Char(char)) => {
                    line.push(char);
                    self.at += 1;
                }
            }
        }
    }

    /// A substitution within a here-document, up to its end.
    fn nested_in_here(&mut self, frame: Frame, length: usize) {
        let depth = self.stack.len();
        self.stack.push(frame);
        self.at += length;
        self.begin_command();
        while self.stack.len() > depth && self.peek(0).is_some() {
            match self.stack.last().copied() {
                None | Some(Frame::Paren) => self.command(),
                Some(Frame::Double) => self.double(),
                Some(Frame::Brace) => self.brace(),
                Some(Frame::Backquote) => self.backquote(),
                Some(Frame::Arithmetic(open)) => self.arithmetic(open),
            }
        }
    }

    /// Looks at the word that just ended: does the command read its arguments a second time?
    fn end_word(&mut self) {
        self.word_start = true;
        let word = std::mem::take(&mut self.word);
        if word.is_empty() {
            return;
        }
        self.next_word = None;
        match word.as_str() {
            "[[" => self.double_bracket = true,
            "]]" => self.double_bracket = false,
            _ => {}
        }
        if self.at_command {
            let assignment = word.split_once('=').is_some_and(|(name, _)| {
                !name.is_empty() && name.chars().all(|it| it.is_ascii_alphanumeric() || it == '_')
            });
            if assignment || BEFORE_COMMAND.contains(&word.as_str()) {
                return;
            }
            self.at_command = false;
            match word.rsplit('/').next().unwrap_or_default() {
                "eval" | "let" => self.whole_command = Some(EVAL),
                "ssh" => self.whole_command = Some(SSH),
                "sh" | "dash" | "ksh" | "zsh" => self.shell = Some(SH_C),
                "bash" => self.shell = Some(BASH_C),
                _ => {}
            }
        } else if let Some(place) = self.shell {
            if word.starts_with('-') && !word.starts_with("--") && word.contains('c') {
                self.next_word = Some(place);
                self.shell = None;
            } else if !word.starts_with(['-', '+']) {
                self.shell = None;
            }
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        self.begin_command();
    }

    fn begin_command(&mut self) {
        self.word.clear();
        self.word_start = true;
        self.at_command = true;
        self.shell = None;
        self.next_word = None;
        self.whole_command = None;
    }
}
