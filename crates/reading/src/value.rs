use std::fmt;
use std::sync::Arc;

/// A number, a truth or a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    /// A number; always finite: see [`Datum::number`].
    Number(f64),
    /// On or off, open or closed.
    Boolean(bool),
    /// A text.
    Text(Arc<str>),
}

/// The type of a channel's values. It never changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Numbers.
    #[default]
    Number,
    /// Truths.
    Boolean,
    /// Texts.
    Text,
}

/// What a device said and how far to trust it: OPC UA's good, uncertain and
/// bad, with the datum inside so that a bad reading can't carry one.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A datum to act on.
    Good(Datum),
    /// A datum, and a reason to doubt it.
    Uncertain(Datum, Doubt),
    /// No datum: the reason why.
    Bad(Fault),
}

/// How far to trust a [`Value`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quality {
    /// Act on it.
    Good,
    /// Show it, marked.
    Uncertain,
    /// There is nothing to show.
    Bad,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every one there is.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The words used in rows, payloads and frames.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// Why a datum is doubtful.
    Doubt {
        /// The clock had not been set when it was taken.
        ClockUnset = "clock not set",
        /// Edges were missed, so that a state or a count may be wrong.
        EdgesMissed = "edges missed",
        /// The device itself doubts it.
        Device = "device in doubt",
    }
}

words! {
    /// Why there is no datum.
    Fault {
        /// The device isn't there.
        Absent = "absent",
        /// The operating system doesn't let us.
        Denied = "permission denied",
        /// Another program holds the device.
        Busy = "in use",
        /// The device didn't answer in time.
        Timeout = "timeout",
        /// The device's answer can't be understood.
        Corrupt = "not understood",
        /// The operating system reports an error.
        Io = "i/o error",
        /// The number lies outside the channel's range.
        OutOfRange = "out of range",
        /// Nothing has come for longer than the channel allows.
        Stale = "stale",
        /// The value hasn't changed for longer than it can.
        Stuck = "stuck",
        /// The driver is wrong: a bug.
        Bug = "driver bug",
    }
}

impl Datum {
    /// A number; `None` for what is not finite, which no payload can carry.
    pub fn number(number: f64) -> Option<Datum> {
        number.is_finite().then_some(Datum::Number(number))
    }

    /// Its type.
    pub fn kind(&self) -> Kind {
        match self {
            Datum::Number(_) => Kind::Number,
            Datum::Boolean(_) => Kind::Boolean,
            Datum::Text(_) => Kind::Text,
        }
    }
}

/// As people write it.
impl fmt::Display for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Datum::Number(number) => write!(f, "{number}"),
            Datum::Boolean(truth) => write!(f, "{truth}"),
            Datum::Text(text) => f.write_str(text),
        }
    }
}

impl From<bool> for Datum {
    fn from(truth: bool) -> Datum {
        Datum::Boolean(truth)
    }
}

impl From<&str> for Datum {
    fn from(text: &str) -> Datum {
        Datum::Text(text.into())
    }
}

impl Value {
    /// The datum, unless the reading is bad.
    pub fn datum(&self) -> Option<&Datum> {
        match self {
            Value::Good(datum) | Value::Uncertain(datum, _) => Some(datum),
            Value::Bad(_) => None,
        }
    }

    /// The datum as a number, when it is one.
    pub fn number(&self) -> Option<f64> {
        match self.datum() {
            Some(Datum::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// How far to trust it.
    pub fn quality(&self) -> Quality {
        match self {
            Value::Good(_) => Quality::Good,
            Value::Uncertain(..) => Quality::Uncertain,
            Value::Bad(_) => Quality::Bad,
        }
    }

    /// Why it is not good; `None` when it is.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Value::Good(_) => None,
            Value::Uncertain(_, doubt) => Some(doubt.as_str()),
            Value::Bad(fault) => Some(fault.as_str()),
        }
    }
}

impl Kind {
    /// The word used in configuration, rows and payloads.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Number => "number",
            Kind::Boolean => "boolean",
            Kind::Text => "text",
        }
    }
}

impl Quality {
    /// The word used in rows, payloads and frames.
    pub const fn as_str(self) -> &'static str {
        match self {
            Quality::Good => "good",
            Quality::Uncertain => "uncertain",
            Quality::Bad => "bad",
        }
    }
}
