//! `Lists`: target lists that were uploaded, each a file without a name beside what is stored, until a scan was made of it or its time is over.
//!
//! - Owner: `serve`.
//! - In: [`Keep`], [`Find`], [`Used`] from requests, awaited.
//! - Death: the files go with it, and whoever uploaded one does so again.

use actix::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

/// How long a list waits for the scan that names it.
pub const LIST_TTL: Duration = Duration::from_secs(15 * 60);
/// How many wait at most.
pub const LISTS_MAX: usize = 16;

/// The actor.
#[derive(Debug, Default)]
pub struct Lists {
    lists: BTreeMap<String, Arc<File>>,
}

impl Actor for Lists {
    type Context = Context<Self>;
}

/// Keeps a list under this id; false if too many wait.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct Keep(pub String, pub File);

/// The lists of these ids; the first id that is none's.
#[derive(Message)]
#[rtype(result = "Result<Vec<Arc<File>>, String>")]
pub struct Find(pub Vec<String>);

/// A scan was made of these.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Used(pub Vec<String>);

impl Handler<Keep> for Lists {
    type Result = bool;

    fn handle(&mut self, Keep(id, file): Keep, ctx: &mut Self::Context) -> bool {
        if self.lists.len() >= LISTS_MAX {
            return false;
        }
        self.lists.insert(id.clone(), Arc::new(file));
        ctx.run_later(LIST_TTL, move |lists, _| {
            lists.lists.remove(&id);
        });
        true
    }
}

impl Handler<Find> for Lists {
    type Result = Result<Vec<Arc<File>>, String>;

    fn handle(&mut self, Find(ids): Find, _: &mut Self::Context) -> Self::Result {
        ids.into_iter().map(|id| self.lists.get(&id).cloned().ok_or(id)).collect()
    }
}

impl Handler<Used> for Lists {
    type Result = ();

    fn handle(&mut self, Used(ids): Used, _: &mut Self::Context) {
        for id in ids {
            self.lists.remove(&id);
        }
    }
}

/// Lists one after the other, from their beginnings, whoever else reads them.
#[derive(Debug)]
pub struct Uploaded {
    files: VecDeque<Arc<File>>,
    offset: u64,
}

impl Uploaded {
    /// Of these.
    #[must_use]
    pub fn new(files: Vec<Arc<File>>) -> Self {
        Self { files: files.into(), offset: 0 }
    }
}

impl Read for Uploaded {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some(file) = self.files.front() {
            let count = file.read_at(buf, self.offset)?;
            if count > 0 || buf.is_empty() {
                self.offset += count as u64;
                return Ok(count);
            }
            self.files.pop_front();
            self.offset = 0;
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn list(text: &str) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        file
    }

    #[test]
    fn lists_are_read_one_after_the_other_and_as_often_as_anybody_wants() {
        let files: Vec<_> = ["192.0.2.1\n", "", "192.0.2.2\n"].map(|text| Arc::new(list(text))).into();
        for _ in 0..2 {
            let mut text = String::new();
            Uploaded::new(files.clone()).read_to_string(&mut text).expect("it can be read");
            assert_eq!(text, "192.0.2.1\n192.0.2.2\n");
        }
    }

    #[actix::test]
    async fn a_list_waits_for_its_time_and_no_more_than_so_many_do() {
        tokio::time::pause();
        let lists = Lists::default().start();
        let find = |ids: &[&str]| lists.send(Find(ids.iter().map(|id| (*id).to_owned()).collect()));
        for number in 0..LISTS_MAX {
            assert!(lists.send(Keep(number.to_string(), list(""))).await.expect("an answer"));
        }
        assert!(!lists.send(Keep("one more".to_owned(), list(""))).await.expect("an answer"));
        lists.send(Used(vec!["0".to_owned()])).await.expect("an answer");
        assert_eq!(find(&["1", "0"]).await.expect("an answer").err().as_deref(), Some("0"));
        tokio::time::advance(LIST_TTL / 2).await;
        assert!(lists.send(Keep("later".to_owned(), list(""))).await.expect("an answer"));
        tokio::time::advance(LIST_TTL / 2 + Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
        assert!(find(&["1"]).await.expect("an answer").is_err(), "its time is over");
        assert!(find(&["later"]).await.expect("an answer").is_ok());
    }
}
