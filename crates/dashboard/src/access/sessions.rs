//! Who is logged in, in memory: a restart asks for the password again.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::secret::Digest;

/// Sessions at once. Of more the one that was used longest ago ends: a household
/// has a dozen browsers.
const SESSIONS_MAX: usize = 64;

/// A session ends when it hasn't been used for this long.
const IDLE: Duration = Duration::from_secs(7 * 86_400);

/// However much it is used, the password is asked for again after this.
pub(super) const AGE: Duration = Duration::from_secs(30 * 86_400);

#[derive(Default)]
pub(super) struct Sessions(HashMap<Digest, Session>);

struct Session {
    began: Instant,
    used: Instant,
}

impl Sessions {
    pub(super) fn begin(&mut self, id: Digest) {
        let now = Instant::now();
        self.0.retain(|_, session| session.lives(now));
        if self.0.len() >= SESSIONS_MAX {
            let oldest = self.0.iter().min_by_key(|(_, session)| session.used).map(|(id, _)| *id);
            oldest.map(|id| self.0.remove(&id));
        }
        self.0.insert(id, Session { began: now, used: now });
    }

    /// Whether it lives; it is used by that.
    pub(super) fn lives(&mut self, id: &Digest) -> bool {
        let now = Instant::now();
        let session = self.0.get_mut(id).filter(|session| session.lives(now));
        session.map(|session| session.used = now).is_some()
    }

    pub(super) fn end(&mut self, id: &Digest) {
        self.0.remove(id);
    }

    /// Ends all but one.
    pub(super) fn end_others(&mut self, kept: Option<&Digest>) {
        self.0.retain(|id, _| Some(id) == kept);
    }
}

impl Session {
    fn lives(&self, now: Instant) -> bool {
        now - self.used < IDLE && now - self.began < AGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_lives_while_it_is_used_but_not_for_ever() {
        let mut sessions = Sessions::default();
        let id = Digest::of("one");
        sessions.begin(id);
        for _ in 0..5 {
            tokio::time::advance(IDLE - Duration::from_secs(86_400)).await;
            assert!(sessions.lives(&id) || sessions.0[&id].began.elapsed() >= AGE);
        }
        assert!(!sessions.lives(&id), "30 days are over");
        sessions.begin(id);
        tokio::time::advance(IDLE).await;
        assert!(!sessions.lives(&id), "it wasn't used");
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_so_many_and_no_more() {
        let mut sessions = Sessions::default();
        for n in 0..=SESSIONS_MAX {
            tokio::time::advance(Duration::from_secs(1)).await;
            sessions.begin(Digest::of(&n.to_string()));
        }
        assert_eq!(sessions.0.len(), SESSIONS_MAX);
        assert!(!sessions.lives(&Digest::of("0")) && sessions.lives(&Digest::of("1")));
        sessions.end_others(Some(&Digest::of("7")));
        assert!(sessions.lives(&Digest::of("7")) && sessions.0.len() == 1);
    }
}
