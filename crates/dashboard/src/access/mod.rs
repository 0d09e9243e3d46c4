//! Who is let in beyond looking: one administrator's password, sessions, and
//! bearer tokens for scripts.
//!
//! There is no default password. Whoever can read the log or the control socket
//! gets a link that sets it, once.

mod kept;
mod secret;
mod sessions;
mod throttle;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{self, HeaderMap, HeaderValue};
use reading::Timestamp;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::guard::{Peer, Refusal, network};
use crate::routes::Need;
pub use kept::Scope;
use kept::{Kept, Token};
use secret::Digest;
use sessions::Sessions;
use throttle::{Later, Throttle};

/// The name of the session's cookie.
const COOKIE: &str = "tidemill_session";

/// A link to set the password is good for this long.
pub(crate) const LINK_LIFE: Duration = Duration::from_secs(3600);

/// The shortest password, in characters: NIST SP 800-63B, section 5.1.1.2.
const PASSWORD_MIN: usize = 8;

/// The longest, in bytes: a phrase, not a burden.
const PASSWORD_MAX: usize = 256;

/// Tokens that there may be: each is compared with every bearer's.
const TOKENS_MAX: usize = 64;

/// What a token begins with, so that scanners for leaked secrets find it.
const TOKEN_PREFIX: &str = "tidemill_";

/// Passwords, sessions and tokens. Cloning it copies a handle.
#[derive(Clone)]
pub struct Access {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    /// A std mutex: it is never held across an await.
    state: Mutex<State>,
    /// One change of the file at a time.
    changing: tokio::sync::Mutex<()>,
    throttle: Throttle,
}

#[derive(Default)]
struct State {
    kept: Kept,
    sessions: Sessions,
    link: Option<Link>,
}

/// A link that sets the password, once.
struct Link {
    digest: Digest,
    made: Instant,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Anybody.
    Anonymous,
    /// Root or the gateway's own user, through the control socket.
    Control,
    /// The administrator, logged in.
    Session(Digest),
    /// A script with a token.
    Token(Digest),
}

/// A token as people see it.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Listed {
    name: String,
    scope: Scope,
    created: String,
}

impl Access {
    /// Reads what is kept at `path`, which needn't be there yet. A damaged file
    /// is put aside, so that it never keeps the gateway from starting: then the
    /// password has to be set anew.
    ///
    /// Must be called where blocking for a few milliseconds does no harm.
    #[must_use]
    pub fn open(path: &Path) -> Access {
        let kept = kept::load(path).unwrap_or_else(|why| {
            let aside = kept::put_aside(path);
            let aside = aside.map_or_else(|e| e.to_string(), |aside| aside.display().to_string());
            error!(file = %path.display(), error = %why, put_aside = aside,
                "the password and tokens can't be read: set them anew");
            Kept::default()
        });
        let shared = Shared {
            path: path.to_owned(),
            state: Mutex::new(State { kept, ..State::default() }),
            changing: tokio::sync::Mutex::default(),
            throttle: Throttle::new(),
        };
        Access { shared: Arc::new(shared) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("no holder panics")
    }

    /// Whether there is a password.
    pub(crate) fn is_set(&self) -> bool {
        self.state().kept.password.is_some()
    }

    /// Who sent a request.
    ///
    /// # Errors
    /// When it carries a token that isn't good. An old session is nobody.
    pub(crate) fn who(&self, peer: Peer, headers: &HeaderMap) -> Result<Who, Refusal> {
        if peer == Peer::Control {
            return Ok(Who::Control);
        }
        if let Some(bearer) = headers.get(header::AUTHORIZATION) {
            let token = bearer.to_str().ok().and_then(|text| {
                let (scheme, token) = text.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then(|| Who::Token(Digest::of(token.trim())))
            });
            return token.filter(|who| self.may(who, Need::Look, false)).ok_or_else(|| {
                let reason = "the token is not known: tidemill token create NAME makes one";
                Refusal::new(StatusCode::UNAUTHORIZED, reason)
            });
        }
        let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|c| c.to_str().ok());
        let pairs = cookies.flat_map(|cookie| cookie.split(';')).filter_map(|c| c.split_once('='));
        for (_, secret) in pairs.filter(|(name, _)| name.trim() == COOKIE) {
            let id = Digest::of(secret.trim());
            if self.state().sessions.lives(&id) {
                return Ok(Who::Session(id));
            }
        }
        Ok(Who::Anonymous)
    }

    /// Whether somebody may do what a route needs; `anyone` says whether
    /// `dashboard.view` lets everybody at this address look. It is asked again as
    /// long as a feed is open: sessions end and tokens are revoked.
    pub(crate) fn may(&self, who: &Who, need: Need, anyone: bool) -> bool {
        if need == Need::Nothing || (need == Need::Look && anyone) {
            return true;
        }
        match who {
            Who::Control => true,
            Who::Anonymous => false,
            Who::Session(id) => need != Need::Control && self.state().sessions.lives(id),
            Who::Token(digest) => matches!(
                (need, self.state().kept.token(digest)),
                (Need::Look, Some(_)) | (Need::Write, Some((_, Scope::Write)))
            ),
        }
    }

    /// Begins a session; gives the cookie.
    pub(crate) async fn login(
        &self,
        peer: Peer,
        password: String,
        secure: bool,
    ) -> Result<HeaderValue, Refusal> {
        let Some(hash) = self.state().kept.password.clone() else {
            let reason = "no password is set yet: tidemill passwd sets it, and tidemill passwd \
                          --link shows a link for the browser";
            return Err(Refusal::new(StatusCode::CONFLICT, reason));
        };
        self.verify(peer, password, hash).await?;
        info!(from = %shown(peer), "logged in");
        self.begin(secure)
    }

    async fn verify(&self, peer: Peer, password: String, hash: String) -> Result<(), Refusal> {
        let (turn, address) = self.turn(peer).await?;
        let right = spawn_blocking(move || {
            let _turn = turn;
            password.len() <= PASSWORD_MAX
                && password_auth::verify_password(password, &hash).is_ok()
        });
        if right.await.unwrap_or(false) {
            self.shared.throttle.succeeded(address);
            return Ok(());
        }
        self.shared.throttle.failed(address);
        warn!(from = %shown(peer), "a wrong password");
        Err(Refusal::new(StatusCode::UNAUTHORIZED, "the password is wrong"))
    }

    async fn turn(&self, peer: Peer) -> Result<(OwnedSemaphorePermit, IpAddr), Refusal> {
        let address = match peer {
            Peer::Control => IpAddr::from([0, 0, 0, 0]),
            Peer::Address(address) => network(address),
        };
        match self.shared.throttle.turn(address).await {
            Ok(turn) => Ok((turn, address)),
            Err(Later(wait)) => Err(Refusal::later(wait)),
        }
    }

    /// Sets the password with the one-time link, which is then used up; gives a
    /// session's cookie.
    pub(crate) async fn setup(
        &self,
        peer: Peer,
        token: &str,
        password: String,
        secure: bool,
    ) -> Result<HeaderValue, Refusal> {
        check(&password)?;
        let (turn, address) = self.turn(peer).await?;
        let used = {
            let mut state = self.state();
            let given = Digest::of(token);
            let good = |link: &mut Link| link.made.elapsed() < LINK_LIFE && link.digest.is(&given);
            state.link.take_if(good)
        };
        let Some(used) = used else {
            self.shared.throttle.failed(address);
            warn!(from = %shown(peer), "a link for the password that is not good");
            let reason = "this link has been used, or is older than an hour: tidemill passwd \
                          --link shows a new one";
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, reason));
        };
        // A card that is full must not use the link up.
        if let Err(refusal) = self.replace(password, turn, None).await {
            self.state().link.get_or_insert(used);
            return Err(refusal);
        }
        info!(from = %shown(peer), "the password is set");
        self.begin(secure)
    }

    /// Sets the password for somebody who has shown the old one, or is trusted.
    /// All other sessions end.
    pub(crate) async fn change(
        &self,
        peer: Peer,
        who: Who,
        current: Option<String>,
        password: String,
    ) -> Result<(), Refusal> {
        check(&password)?;
        let hash = self.state().kept.password.clone();
        match (who, hash, current) {
            (Who::Control, ..) | (_, None, _) => (),
            (_, Some(hash), Some(current)) => self.verify(peer, current, hash).await?,
            (_, Some(_), None) => {
                let reason = "the current password is missing: send it as \"current\"";
                return Err(Refusal::new(StatusCode::BAD_REQUEST, reason));
            }
        }
        let (turn, _) = self.turn(peer).await?;
        let own = if let Who::Session(id) = who { Some(id) } else { None };
        self.replace(password, turn, own).await?;
        // An old link must not set it again.
        self.state().link = None;
        info!(from = %shown(peer), "the password is set");
        Ok(())
    }

    async fn replace(
        &self,
        password: String,
        turn: OwnedSemaphorePermit,
        own: Option<Digest>,
    ) -> Result<(), Refusal> {
        let hash = spawn_blocking(move || {
            let _turn = turn;
            password_auth::generate_hash(password)
        });
        let hash = hash.await.map_err(|error| internal(&error))?;
        self.edit(|kept| {
            kept.password = Some(hash);
            Ok(())
        })
        .await?;
        self.state().sessions.end_others(own.as_ref());
        Ok(())
    }

    fn begin(&self, secure: bool) -> Result<HeaderValue, Refusal> {
        let secret = secret::make().map_err(|error| internal(&error))?;
        self.state().sessions.begin(Digest::of(&secret));
        Ok(cookie(&secret, sessions::AGE, secure))
    }

    /// Ends a session; gives the cookie that removes the cookie.
    pub(crate) fn logout(&self, who: &Who, secure: bool) -> HeaderValue {
        if let Who::Session(id) = who {
            self.state().sessions.end(id);
        }
        cookie("", Duration::ZERO, secure)
    }

    /// A new token for a link that sets the password. The one before is void.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub(crate) fn link(&self) -> Result<String, Refusal> {
        let token = secret::make().map_err(|error| internal(&error))?;
        let link = Link { digest: Digest::of(&token), made: Instant::now() };
        self.state().link = Some(link);
        Ok(token)
    }

    /// The tokens there are, in the order in which they were made.
    pub(crate) fn tokens(&self) -> Vec<Listed> {
        let listed = |token: &Token| Listed {
            name: token.name.clone(),
            scope: token.scope,
            created: token.created.clone(),
        };
        self.state().kept.tokens.iter().map(listed).collect()
    }

    /// Makes a token. This is the only time that it is shown.
    pub(crate) async fn create(&self, name: &str, scope: Scope) -> Result<String, Refusal> {
        if !reading::is_name(name) {
            let reason = reading::InvalidName(name.to_owned()).to_string();
            return Err(Refusal::new(StatusCode::BAD_REQUEST, reason));
        }
        let secret = secret::make().map_err(|error| internal(&error))?;
        let secret = format!("{TOKEN_PREFIX}{secret}");
        let token = Token {
            name: name.to_owned(),
            scope,
            created: Timestamp::now().to_string(),
            digest: Digest::of(&secret).to_hex(),
        };
        self.edit(|kept| {
            if kept.tokens.iter().any(|token| token.name == name) {
                let reason = format!("there is a token {name} already: revoke it first");
                return Err(Refusal::new(StatusCode::CONFLICT, reason));
            }
            if kept.tokens.len() >= TOKENS_MAX {
                let reason = format!("there are {TOKENS_MAX} tokens already: revoke one first");
                return Err(Refusal::new(StatusCode::CONFLICT, reason));
            }
            kept.tokens.push(token);
            Ok(())
        })
        .await?;
        info!(name, ?scope, "a token is made");
        Ok(secret)
    }

    /// Makes a token void.
    pub(crate) async fn revoke(&self, name: &str) -> Result<(), Refusal> {
        self.edit(|kept| {
            let before = kept.tokens.len();
            kept.tokens.retain(|token| token.name != name);
            if kept.tokens.len() == before {
                return Err(Refusal::new(
                    StatusCode::NOT_FOUND,
                    format!("there is no token {name:?}"),
                ));
            }
            Ok(())
        })
        .await?;
        info!(name, "a token is revoked");
        Ok(())
    }

    /// Changes what is kept: on disk first, so that nothing is promised that a
    /// restart forgets.
    async fn edit(
        &self,
        edit: impl FnOnce(&mut Kept) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let _changing = self.shared.changing.lock().await;
        let mut kept = self.state().kept.clone();
        edit(&mut kept)?;
        let (path, new) = (self.shared.path.clone(), kept.clone());
        let saved = spawn_blocking(move || kept::save(&path, &new)).await;
        if let Err(error) = saved.map_err(std::io::Error::other).flatten() {
            let path = self.shared.path.display();
            let reason = format!("nothing is changed: {path} can't be written: {error}");
            return Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, reason));
        }
        self.state().kept = kept;
        Ok(())
    }
}

fn check(password: &str) -> Result<(), Refusal> {
    if password.chars().count() >= PASSWORD_MIN && password.len() <= PASSWORD_MAX {
        return Ok(());
    }
    let reason = format!(
        "a password has at least {PASSWORD_MIN} characters and at most {PASSWORD_MAX} bytes"
    );
    Err(Refusal::new(StatusCode::BAD_REQUEST, reason))
}

fn cookie(secret: &str, age: Duration, secure: bool) -> HeaderValue {
    let (age, secure) = (age.as_secs(), if secure { "; Secure" } else { "" });
    let text =
        format!("{COOKIE}={secret}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::try_from(text).expect("a secret of ours is base64")
}

fn internal(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

fn shown(peer: Peer) -> String {
    match peer {
        Peer::Control => "the control socket".into(),
        Peer::Address(address) => address.to_string(),
    }
}
