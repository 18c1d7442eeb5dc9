//! Exit codes, and how a failure is told: the chain of causes once, then what to do about it.

use std::error::Error;
use std::fmt::Write;
use std::process::ExitCode;

use kmirror_client::error::Chain;

/// What the process ends with. The table in `--help` is made from [`Code::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// It did what it was asked to do.
    Success,
    /// It could not go on.
    Runtime,
    /// The command line, or a file it names, cannot be used.
    Usage,
    /// A verification found a difference.
    Verification,
    /// It ended in order, but not everything was mirrored.
    Incomplete,
    /// No topic of the source matched what was to be mirrored.
    Unmatched,
    /// It was ended before what was under way was finished.
    Aborted,
}

impl Code {
    /// Every code, in the order of the numbers.
    pub(crate) const ALL: [Self; 7] = [
        Self::Success,
        Self::Runtime,
        Self::Usage,
        Self::Verification,
        Self::Incomplete,
        Self::Unmatched,
        Self::Aborted,
    ];

    /// The number that the shell sees.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Runtime => 1,
            Self::Usage => 2,
            Self::Verification => 3,
            Self::Incomplete => 4,
            Self::Unmatched => 5,
            Self::Aborted => 130,
        }
    }

    /// What it means.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Success => "done, or stopped in order by a signal",
            Self::Runtime => "a failure while running",
            Self::Usage => "the command line or a configuration file cannot be used",
            Self::Verification => "a verification found a difference",
            Self::Incomplete => {
                "ended in order, but not everything was mirrored: partitions or topics need a look"
            }
            Self::Unmatched => "no topic matched, so nothing was mirrored",
            Self::Aborted => {
                "ended by a second signal or shutdown_timeout; what was under way is repeated"
            }
        }
    }

    /// Of several, the one with the highest is told: what nothing could be done about first.
    fn severity(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Verification => 1,
            Self::Incomplete => 2,
            Self::Unmatched => 3,
            Self::Aborted => 4,
            Self::Runtime => 5,
            Self::Usage => 6,
        }
    }
}

/// The table for `--help`.
pub(crate) fn table() -> String {
    let mut text = String::from("Exit codes:\n");
    for code in Code::ALL {
        let _ = writeln!(text, "  {:>3}  {}", code.number(), code.meaning());
    }
    text.pop();
    text
}

/// Why the command did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    error: Option<Cause>,
    help: Option<String>,
    may_pass: bool,
}

/// Any error; its chain of sources is printed.
pub(crate) type Cause = Box<dyn Error + Send + Sync>;

impl Failure {
    /// A failure while running.
    pub(crate) fn runtime(error: impl Into<Cause>) -> Self {
        Self::new(Code::Runtime, error)
    }

    /// The command line or a file cannot be used.
    pub(crate) fn usage(error: impl Into<Cause>) -> Self {
        Self::new(Code::Usage, error)
    }

    /// An end with this code and this text.
    pub(crate) fn new(code: Code, error: impl Into<Cause>) -> Self {
        Self { code, error: Some(error.into()), help: None, may_pass: false }
    }

    /// Nobody reads our output any more (`kmirror ... | head`): the end, and no error.
    pub(crate) fn closed_output() -> Self {
        Self { code: Code::Success, error: None, help: None, may_pass: false }
    }

    /// All of them as one, with the code of the worst; a success if there is none.
    pub(crate) fn all(mut failures: Vec<Self>) -> Result<(), Self> {
        if failures.len() < 2 {
            return failures.pop().map_or(Ok(()), Err);
        }
        let worst = failures.iter().map(|failure| failure.code).max_by_key(|code| code.severity());
        let texts: Vec<_> = failures.iter().map(Self::text).collect();
        let mut helps: Vec<_> = failures.into_iter().filter_map(|failure| failure.help).collect();
        helps.dedup();
        let failure = Self::new(worst.unwrap_or(Code::Runtime), texts.join("\nerror: "));
        Err(if helps.is_empty() { failure } else { failure.with_help(helps.join("\nhelp: ")) })
    }

    /// Says whether the same may succeed later without anybody changing anything.
    #[must_use]
    pub(crate) fn that_may_pass(mut self, may_pass: bool) -> Self {
        self.may_pass = may_pass;
        self
    }

    /// Whether it may succeed later.
    pub(crate) fn may_pass(&self) -> bool {
        self.may_pass
    }

    /// What the process ends with.
    #[cfg(test)]
    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// Says where it happened.
    #[must_use]
    pub(crate) fn within(mut self, place: String) -> Self {
        self.error = self.error.map(|source| Within { place, source }.into());
        self
    }

    /// What happened: the chain of causes.
    pub(crate) fn text(&self) -> String {
        self.error.as_ref().map(|error| chain(error.as_ref())).unwrap_or_default()
    }

    /// Adds what to do about it.
    #[must_use]
    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Prints it to standard error and gives the code.
    pub(crate) fn report(&self) -> ExitCode {
        if self.error.is_some() {
            eprintln!("error: {}", self.text());
        }
        if let Some(help) = &self.help {
            eprintln!("help: {help}");
        }
        ExitCode::from(self.code.number())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{place}")]
struct Within {
    place: String,
    source: Cause,
}

/// `a: b: c`, from the error itself to its last cause.
pub(crate) fn chain(error: &dyn Error) -> String {
    Chain(error).to_string()
}

/// Help and versions go to standard output and succeed; everything else is a wrong usage.
pub(crate) fn usage(refused: &clap::Error) -> ExitCode {
    // Nothing can be done for a reader that has gone.
    let _ = refused.print();
    let code = if refused.use_stderr() { Code::Usage } else { Code::Success };
    ExitCode::from(code.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("inner")]
    struct Inner;

    #[test]
    fn a_chain_names_every_cause_once() {
        assert_eq!(chain(&Outer(Inner)), "outer: inner");
    }

    #[test]
    fn failures_are_told_together_and_the_worst_gives_the_code() {
        assert!(Failure::all(Vec::new()).is_ok());
        let failures = vec![
            Failure::new(Code::Incomplete, "one"),
            Failure::runtime(Outer(Inner)).with_help("x"),
        ];
        let all = Failure::all(failures).unwrap_err();
        assert_eq!((all.code, all.text().as_str()), (Code::Runtime, "one\nerror: outer: inner"));
        assert_eq!(all.help.as_deref(), Some("x"));
    }

    #[test]
    fn no_two_codes_share_a_number() {
        let mut numbers = Code::ALL.map(Code::number).to_vec();
        numbers.dedup();
        assert_eq!(numbers.len(), Code::ALL.len());
    }
}
