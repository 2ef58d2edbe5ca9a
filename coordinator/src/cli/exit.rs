//! How portsweep ends: its exit codes (DESIGN.md "Command line").

/// An exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// 0: every target was probed.
    Done,
    /// 1: it failed.
    Failed,
    /// 2: the command line cannot be meant; nothing was sent.
    Usage,
    /// 3: it finished, but could not look everywhere.
    Incomplete,
    /// 130: it was interrupted and can be resumed. A shell gives the same number to a program that Ctrl-C ended.
    Interrupted,
}

impl ExitCode {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Incomplete => 3,
            Self::Interrupted => 130,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(exit: ExitCode) -> Self {
        Self::from(exit.code())
    }
}
