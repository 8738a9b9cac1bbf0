//! Connecting to the first of several addresses that answers: a finished handshake with a pinned
//! key, not a bare TCP connection. One that hangs costs the others nothing.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::{Client, ConnectError};

/// What came of one address.
pub type Tried = Result<Client, ConnectError>;

/// Addresses that are tried at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wave {
    /// The addresses.
    pub addresses: Vec<String>,
    /// How much later than the wave before it begins; at once when nothing is under way any more.
    pub after: Duration,
}

/// Waves of connections; those under way are broken off when this is dropped, so that a server is
/// not crowded by handshakes that nobody will finish.
pub struct Race<B> {
    begin: B,
    waves: VecDeque<Wave>,
    /// When the last wave began.
    begun: Instant,
    tries: JoinSet<Tried>,
}

impl<B: Fn(&mut JoinSet<Tried>, &str)> Race<B> {
    /// Makes a race of `waves`, in which `begin` starts to connect to an address.
    pub fn new(waves: impl IntoIterator<Item = Wave>, begin: B) -> Self {
        let waves = waves.into_iter().filter(|wave| !wave.addresses.is_empty()).collect();
        Self { begin, waves, begun: Instant::now(), tries: JoinSet::new() }
    }

    /// Waits for what comes of the next address; `None` after the last one.
    pub async fn next(&mut self) -> Option<Tried> {
        loop {
            let due = self.waves.front().map(|wave| self.begun + wave.after);
            if self.tries.is_empty() {
                self.start()?;
                continue;
            }
            tokio::select! {
                Some(tried) = self.tries.join_next() => match tried {
                    Ok(tried) => return Some(tried),
                    // A task that was stopped: the program ends.
                    Err(_) => continue,
                },
                () = sleep_until(due.unwrap_or(self.begun)), if due.is_some() => {}
            }
            self.start();
        }
    }

    /// Begins the next wave.
    fn start(&mut self) -> Option<()> {
        let wave = self.waves.pop_front()?;
        self.begun = Instant::now();
        for address in &wave.addresses {
            (self.begin)(&mut self.tries, address);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use host::raw_keys::Acceptor;
    use shared::keys::SignKey;
    use tokio::net::TcpListener;
    use tokio::sync::Notify;

    use super::*;
    use crate::remote::connect;

    /// Never passes in a test.
    const LONG: Duration = Duration::from_hours(1);

    struct Server {
        address: String,
        /// Tells of every connection that has come.
        came: Arc<Notify>,
    }

    /// Answers with `key`, once `slow` is told.
    async fn server(key: &SignKey, slow: Option<Arc<Notify>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, came) = (listener.local_addr().unwrap().to_string(), Arc::new(Notify::new()));
        let (acceptor, told) = (Acceptor::new(key, LONG).unwrap(), Arc::clone(&came));
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                told.notify_one();
                if let Some(slow) = &slow {
                    slow.notified().await;
                }
                // A client that leaves is no fault.
                let _ = acceptor.accept(socket).await;
            }
        });
        Server { address, came }
    }

    fn wave(addresses: &[&str], after: Duration) -> Wave {
        Wave { addresses: addresses.iter().map(ToString::to_string).collect(), after }
    }

    /// Makes a race of a client that knows the server by `key`.
    fn race(waves: Vec<Wave>, key: &SignKey) -> Race<impl Fn(&mut JoinSet<Tried>, &str) + use<>> {
        let pin = key.verify_key();
        Race::new(waves, move |tries: &mut JoinSet<Tried>, address: &str| {
            let (address, pin) = (address.to_owned(), pin.clone());
            tries.spawn(async move { connect(&address, &[pin], &SignKey::generate()).await });
        })
    }

    /// Returns an address where nothing listens.
    async fn closed() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().to_string()
    }

    #[tokio::test]
    async fn the_first_that_answers_wins_wherever_it_stands_in_the_list() {
        let (key, open) = (SignKey::generate(), Arc::new(Notify::new()));
        let (slow, quick) = (server(&key, Some(open.clone())).await, server(&key, None).await);
        // The backlog takes connections that nobody ever accepts.
        let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hung = hangs.local_addr().unwrap().to_string();
        let waves = vec![wave(&[&hung, &slow.address, &quick.address], Duration::ZERO)];
        let mut race = race(waves, &key);
        let first = race.next().await.unwrap().unwrap();
        assert_eq!(first.address(), quick.address);
        assert_eq!(first.way().peer.to_string(), quick.address);
        open.notify_one();
        assert_eq!(race.next().await.unwrap().unwrap().address(), slow.address);
        assert!(race.next().await.unwrap().is_err(), "the one that hangs");
        assert!(race.next().await.is_none());
    }

    #[tokio::test]
    async fn refused_and_wrong_keys_stop_nobody_and_are_named() {
        let (key, open) = (SignKey::generate(), Arc::new(Notify::new()));
        let wrong = server(&SignKey::generate(), None).await;
        let right = server(&key, Some(open.clone())).await;
        let refused = closed().await;
        let waves = vec![wave(&[&wrong.address, &refused, &right.address], Duration::ZERO)];
        let mut race = race(waves, &key);
        let mut failed = [race.next().await.unwrap(), race.next().await.unwrap()]
            .map(|tried| tried.err().unwrap());
        failed.sort_by_key(|fault| matches!(fault, ConnectError::WrongPin { .. }));
        open.notify_one();
        assert_eq!(race.next().await.unwrap().unwrap().address(), right.address);
        assert_eq!(
            ConnectError::list(&failed),
            format!(
                "no address of the server answers:\n  no server at `{refused}`: Connection refused \
                 (os error 111)\n  E_SERVER_PIN: server at `{}`",
                wrong.address
            )
        );
        assert_eq!(ConnectError::list(&failed[1..]), failed[1].to_string());
    }

    #[tokio::test]
    async fn one_with_a_head_start_is_asked_alone_and_the_others_when_it_fails() {
        let key = SignKey::generate();
        let (good, other) = (server(&key, None).await, server(&key, None).await);
        let one = |first: &str| {
            vec![wave(&[first], Duration::ZERO), wave(&[], LONG), wave(&[&other.address], LONG)]
        };
        let mut alone = race(one(&good.address), &key);
        assert_eq!(alone.next().await.unwrap().unwrap().address(), good.address);
        drop(alone);
        good.came.notified().await;
        let mut failing = race(one(&closed().await), &key);
        assert!(failing.next().await.unwrap().is_err());
        assert_eq!(failing.next().await.unwrap().unwrap().address(), other.address);
        other.came.notified().await;
        assert!(failing.next().await.is_none());
        // Nobody else has come.
        let came = other.came.notified();
        tokio::select! {
            biased;
            () = came => panic!("the other one was asked although the first had answered"),
            () = tokio::task::yield_now() => {}
        }
    }

    #[tokio::test]
    async fn one_that_hangs_has_its_head_start_and_no_more() {
        let key = SignKey::generate();
        let right = server(&key, None).await;
        let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hung = hangs.local_addr().unwrap().to_string();
        let start = Duration::from_millis(1);
        let waves = vec![wave(&[&hung], Duration::ZERO), wave(&[&right.address], start)];
        let first = race(waves, &key).next().await.unwrap().unwrap();
        assert_eq!(first.address(), right.address);
    }
}
