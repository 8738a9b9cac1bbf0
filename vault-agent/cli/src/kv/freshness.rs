//! How old an answer may be: flags of the commands that read secrets.

use super::secret::say_age;
use crate::client::{self, Answer, Client};
use crate::context::Global;
use host::clock;
use host::hint::Failure;
use shared::duration;

/// How old an answer may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Freshness {
    /// Answer from this machine's cache; where no agent runs, do not wait for the server
    #[arg(long)]
    offline: bool,
    /// Fail if the answer comes from the cache and is older than this, e.g. 10m
    #[arg(long, value_name = "DURATION", value_parser = micros)]
    max_age: Option<i64>,
}

fn micros(text: &str) -> Result<i64, String> {
    let known = duration::parse(text).filter(|micros| *micros >= 0);
    known.ok_or_else(|| "expected a duration such as 10m or 24h".to_owned())
}

impl Freshness {
    /// Makes the client that the flags ask for.
    pub fn client(&self, global: &Global) -> Result<Client, client::Error> {
        global.client_with(|_, options| options.offline = self.offline)
    }

    /// Refuses an answer that is too old, and says of one that is not known to be the newest.
    pub fn look(&self, global: &Global, answer: &Answer) -> Result<(), Failure> {
        if let (Some(most), Some(seconds)) = (self.max_age, answer.cache_age)
            && i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000) > most
        {
            let age = clock::age(seconds);
            let text = format!("the cache is {age} old, more than -max-age allows");
            return Err(Failure::remote(text)
                .hint("the server cannot be reached: `vault status` tells more"));
        }
        say_age(global, answer);
        Ok(())
    }
}
