//! What one machine has taken, and what it may still take.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use shared::audit::Fact;
use shared::path::SecretPath;
use shared::time::Time;
use shared::wire::v1::shares::Share;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::bucket::Bucket;
use crate::config::Shares;

/// Why waiting for a permit cannot fail.
const OPEN: &str = "no semaphore of an account is ever closed";
const DAY: Duration = Duration::from_secs(86_400);
/// What a rate allows at once, in seconds of it.
const BURST: Duration = Duration::from_secs(10);

/// One machine's account.
#[derive(Debug)]
pub struct Account {
    taken: Mutex<Taken>,
    requests: Arc<Semaphore>,
    body: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    answer_bytes: u32,
}

#[derive(Debug)]
struct Taken {
    requests: Bucket,
    bytes: Bucket,
    log: Bucket,
    blobs: Bucket,
    audit: Bucket,
    /// Of the audit share half is for what the machine tells of itself, so that a busy program on
    /// it cannot keep it from reading secrets.
    told: Bucket,
    over: BTreeMap<Share, (u64, Time)>,
}

impl Taken {
    const fn bucket(&mut self, share: Share) -> Option<&mut Bucket> {
        Some(match share {
            Share::Requests => &mut self.requests,
            Share::Bytes => &mut self.bytes,
            Share::Log => &mut self.log,
            Share::Blobs => &mut self.blobs,
            Share::Audit => &mut self.audit,
            Share::AtOnce => return None,
        })
    }
}

/// Memory for an answer on its way to the machine; dropping it makes room for others.
#[derive(Debug)]
pub struct Room(OwnedSemaphorePermit);

impl Room {
    /// Keeps what the bytes need, for as long as anything holds them.
    pub fn hold(mut self, bytes: Bytes) -> Bytes {
        struct Held {
            bytes: Bytes,
            _room: Room,
        }
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                &self.bytes
            }
        }
        if bytes.is_empty() {
            return bytes;
        }
        let surplus = self.0.num_permits().saturating_sub(bytes.len());
        drop(self.0.split(surplus));
        Bytes::from_owner(Held { bytes, _room: self })
    }
}

/// Returns about what a record takes on disk: its JSON, and the copies of what is filtered by.
fn size(fact: &Fact) -> u64 {
    let path = fact.path.as_ref().map_or(0, |path| SecretPath::as_str(path).len());
    let who = fact.who.as_ref().map_or(0, |who| who.as_str().len());
    let op = fact.op.as_str().len();
    (420 + 2 * path + who + 2 * op) as u64
}

impl Account {
    /// Makes the account of a machine that has taken nothing yet.
    pub fn new(shares: &Shares) -> Self {
        let a_second = |rate: u64| Bucket::new(rate.saturating_mul(BURST.as_secs()), BURST);
        let a_day = |share| Bucket::new(share, DAY);
        let answer_bytes = u32::try_from(shares.answer_bytes).unwrap_or(u32::MAX);
        Self {
            taken: Mutex::new(Taken {
                requests: a_second(shares.requests_per_second),
                bytes: a_second(shares.bytes_per_second),
                log: a_day(shares.log_bytes_per_day),
                blobs: a_day(shares.blob_bytes_per_day),
                audit: a_day(shares.audit_bytes_per_day),
                told: a_day(shares.audit_bytes_per_day / 2),
                over: BTreeMap::new(),
            }),
            requests: Arc::new(Semaphore::new(shares.requests)),
            body: Arc::new(Semaphore::new(1)),
            answers: Arc::new(Semaphore::new(shares.answer_bytes)),
            answer_bytes,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Every change under the lock is a single step: a panic elsewhere leaves it whole.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the first of the shares that is used up, and for how long; counts it.
    pub fn used_up(&self, shares: &[Share], now: Instant, time: Time) -> Option<(Share, Duration)> {
        let mut taken = self.lock();
        let found =
            shares.iter().find_map(|share| Some((*share, taken.bucket(*share)?.wait(now)?)));
        if let Some((share, _)) = found {
            taken.count(share, time);
        }
        found
    }

    /// Counts a refusal.
    pub fn count(&self, share: Share, time: Time) {
        self.lock().count(share, time);
    }

    /// Takes an amount of a share.
    pub fn take(&self, share: Share, amount: u64, now: Instant) {
        if let Some(bucket) = self.lock().bucket(share) {
            bucket.take(amount, now);
        }
    }

    /// Gives back what was taken for nothing.
    pub fn give_back(&self, share: Share, amount: u64) {
        if let Some(bucket) = self.lock().bucket(share) {
            bucket.give_back(amount);
        }
    }

    /// Takes a record's bytes of the audit share; `false` if nothing is left and the fact can be
    /// counted instead.
    pub fn records(&self, fact: &Fact, countable: bool, now: Instant) -> bool {
        let (mut taken, told) = (self.lock(), fact.op.is_local());
        let is_over = |bucket: &Bucket| bucket.wait(now).is_some();
        if countable && (is_over(&taken.audit) || told && is_over(&taken.told)) {
            return false;
        }
        let size = size(fact);
        taken.audit.take(size, now);
        if told {
            taken.told.take(size, now);
        }
        true
    }

    /// Returns of which shares of a day most is taken: how many percent, and for how long.
    pub fn low(&self, now: Instant) -> Vec<(Share, (u64, Duration))> {
        let mut taken = self.lock();
        let of_a_day = [Share::Log, Share::Blobs, Share::Audit].into_iter();
        of_a_day.filter_map(|share| Some((share, taken.bucket(share)?.low(now)?))).collect()
    }

    /// Returns how often each share was used up when something was asked for, and when last.
    pub fn over(&self) -> BTreeMap<Share, (u64, Time)> {
        self.lock().over.clone()
    }

    /// Waits for one of the places of open requests.
    pub async fn request(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.requests).acquire_owned().await.expect(OPEN)
    }

    /// Waits until no other large body is on its way from this machine.
    pub async fn body(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.body).acquire_owned().await.expect(OPEN)
    }

    /// Waits until answers of up to `bytes` fit beside those that the machine has not read yet; a
    /// larger one than all may be is let through alone.
    pub async fn room(&self, bytes: usize) -> Room {
        let permits = self.permits(bytes);
        Room(Arc::clone(&self.answers).acquire_many_owned(permits).await.expect(OPEN))
    }

    /// As [`Account::room`], but does not wait.
    pub fn room_now(&self, bytes: usize) -> Option<Room> {
        let permits = self.permits(bytes);
        Arc::clone(&self.answers).try_acquire_many_owned(permits).ok().map(Room)
    }

    /// Returns how many bytes of answers it has not read yet.
    pub fn unread(&self) -> u64 {
        let free = self.answers.available_permits() as u64;
        u64::from(self.answer_bytes).saturating_sub(free)
    }

    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.answer_bytes)
    }
}

impl Taken {
    fn count(&mut self, share: Share, time: Time) {
        let (count, last) = self.over.entry(share).or_insert((0, time));
        (*count, *last) = (*count + 1, time);
    }
}

#[cfg(test)]
mod tests {
    use shared::audit::Op;

    use super::*;

    fn account(shares: Shares) -> (Account, Instant, Time) {
        (Account::new(&shares), Instant::now(), Time::from_micros(5))
    }

    #[test]
    fn each_share_is_used_up_by_itself_and_counted() {
        let (account, now, time) = account(Shares {
            log_bytes_per_day: 100,
            blob_bytes_per_day: 100,
            ..Shares::default()
        });
        let both = [Share::Blobs, Share::Log];
        account.take(Share::Log, 99, now);
        assert_eq!(account.used_up(&both, now, time), None);
        account.take(Share::Log, 1, now);
        assert_eq!(account.used_up(&both, now, time), Some((Share::Log, Duration::ZERO)));
        assert_eq!(account.used_up(&[Share::Blobs], now, time), None);
        account.count(Share::AtOnce, time);
        assert_eq!(account.over(), [(Share::AtOnce, (1, time)), (Share::Log, (1, time))].into());
        account.give_back(Share::Log, 1);
        assert_eq!(account.used_up(&both, now, time), None);
    }

    #[test]
    fn a_burst_of_requests_is_free_and_a_flood_is_not() {
        let (account, now, time) =
            account(Shares { requests_per_second: 100, ..Shares::default() });
        let mut asked = 0;
        while account.used_up(&[Share::Requests], now, time).is_none() {
            account.take(Share::Requests, 1, now);
            asked += 1;
        }
        assert_eq!(asked, 1000);
        let second = now + Duration::from_secs(1);
        assert_eq!(account.used_up(&[Share::Requests], second, time), None);
    }

    #[test]
    fn what_a_machine_tells_of_itself_takes_half_of_its_records() {
        let told = Fact::new(Op::LocalRead);
        let (account, now, _) =
            account(Shares { audit_bytes_per_day: 20 * size(&told), ..Shares::default() });
        let recorded = (0..100).filter(|_| account.records(&told, true, now)).count();
        assert_eq!(recorded, 10);
        let page = Fact::new(Op::Log);
        assert!(account.records(&page, true, now));
        let read = Fact::new(Op::Read);
        while account.records(&page, true, now) {}
        assert!(account.records(&read, false, now), "what cannot be counted is recorded");
        assert!(account.used_up(&[Share::Audit], now, Time::from_micros(1)).is_some());
    }

    #[tokio::test]
    async fn answers_hold_their_room_until_nothing_holds_them() {
        let (account, ..) = account(Shares { answer_bytes: 100, ..Shares::default() });
        let first = account.room(60).await.hold(Bytes::from(vec![1; 40]));
        assert_eq!(account.unread(), 40);
        let (slice, rest) = (first.slice(1..2), account.room_now(60).unwrap());
        assert!(account.room_now(1).is_none());
        drop(first);
        assert!(account.room_now(1).is_none(), "a slice holds all of it");
        drop((slice, rest));
        assert_eq!(account.unread(), 0);
        let huge = account.room(1000).await.hold(Bytes::from(vec![1; 1000]));
        assert_eq!((huge.len(), account.unread()), (1000, 100), "alone, it is let through");
        drop(account.room_now(0).unwrap().hold(Bytes::new()));
    }
}
