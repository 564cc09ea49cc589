//! A disk whose power fails, for tests: what was not synced may be lost in part.
//!
//! At the chosen operation the power goes, and every later one is an error. Then each name that was not synced has any of
//! the states that it went through since it was, and each content that was not synced is empty, cut, zeroes or whole.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use object_store::PutPayload;
use tokio::sync::Notify;

use super::durable::Disk;
use super::faulty::whole;

/// The disk: a folder of the real one, and what of it is not synced.
#[derive(Debug)]
pub struct FailingDisk {
    state: Mutex<State>,
    /// Told when the power goes.
    pub is_off: Notify,
    /// Whether syncing is left out: a disk on which nothing is durable.
    lies: bool,
}

#[derive(Debug, Default)]
struct State {
    operations: usize,
    fails_at: Option<usize>,
    is_off: bool,
    contents: Vec<Content>,
    names: HashMap<PathBuf, Name>,
}

#[derive(Debug)]
struct Content {
    bytes: Bytes,
    is_synced: bool,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Target {
    Nothing,
    Folder,
    File(usize),
}

#[derive(Debug)]
struct Name {
    synced: Target,
    /// Later ones, the last of which is what a reader sees.
    since: Vec<Target>,
}

impl State {
    /// Counts an operation; it is an error once the power is gone.
    fn step(&mut self) -> io::Result<()> {
        self.operations += 1;
        if self.fails_at == Some(self.operations) {
            self.is_off = true;
        }
        if self.is_off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    /// What a name stands for to a reader; what was there before we came is on the disk.
    fn target(&mut self, path: &Path) -> Target {
        if let Some(name) = self.names.get(path) {
            return name.since.last().copied().unwrap_or(name.synced);
        }
        let target = match fs::read(path) {
            Ok(bytes) => self.content(bytes.into(), true),
            Err(error) if error.kind() == ErrorKind::IsADirectory => Target::Folder,
            Err(_) => Target::Nothing,
        };
        self.names.insert(path.to_path_buf(), Name { synced: target, since: Vec::new() });
        target
    }

    fn content(&mut self, bytes: Bytes, is_synced: bool) -> Target {
        self.contents.push(Content { bytes, is_synced });
        Target::File(self.contents.len() - 1)
    }

    fn turn(&mut self, path: &Path, target: Target) {
        self.target(path);
        self.names.get_mut(path).expect("it was just looked up").since.push(target);
    }
}

impl FailingDisk {
    /// A disk whose power goes at an operation, if it comes to that.
    pub fn new(fails_at: Option<usize>) -> Self {
        Self { state: Mutex::new(State { fails_at, ..State::default() }), is_off: Notify::new(), lies: false }
    }

    /// One that says it has synced and has not.
    pub fn lying(fails_at: Option<usize>) -> Self {
        Self { lies: true, ..Self::new(fails_at) }
    }

    /// Operations so far.
    pub fn operations(&self) -> usize {
        self.state.lock().unwrap().operations
    }

    fn step(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state.lock().unwrap();
        match state.step() {
            Ok(()) => Ok(state),
            Err(error) => {
                self.is_off.notify_one();
                Err(error)
            }
        }
    }

    /// The power goes, if it has not gone yet, and comes back: what was not synced is what chance makes of it.
    /// Returns the names that are not what a reader saw last.
    pub fn lose_power(&self, mut chance: impl FnMut(usize) -> usize) -> usize {
        let mut state = self.state.lock().unwrap();
        state.is_off = true;
        let State { names, contents, .. } = &mut *state;
        let mut names: Vec<_> = names.drain().collect();
        // Folders before what is in them.
        names.sort_by(|a, b| a.0.cmp(&b.0));
        let mut changed = 0;
        for (path, name) in names {
            let seen = name.since.last().copied().unwrap_or(name.synced);
            let choice = chance(name.since.len() + 1);
            let left = if choice == 0 { name.synced } else { name.since[choice - 1] };
            let mut is_other = left != seen;
            match left {
                Target::Nothing => {
                    fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path)).ok();
                }
                // What is in a folder that was lost is lost with it.
                Target::Folder => {}
                Target::File(number) => {
                    let Content { bytes, is_synced } = &contents[number];
                    let kept = match (is_synced, chance(4)) {
                        (true, _) | (_, 0) => bytes.clone(),
                        (_, 1) => Bytes::new(),
                        (_, 2) => bytes.slice(..chance(bytes.len() + 1)),
                        _ => vec![0; bytes.len()].into(),
                    };
                    is_other |= kept != bytes;
                    if path.parent().is_some_and(Path::is_dir) {
                        // Not written in place: other names may share the file.
                        fs::remove_file(&path).ok();
                        fs::write(&path, kept).unwrap();
                    }
                }
            }
            changed += usize::from(is_other);
        }
        changed
    }
}

impl Disk for FailingDisk {
    fn write(&self, path: &Path, content: &PutPayload) -> io::Result<()> {
        let mut state = self.step()?;
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        content.iter().try_for_each(|piece| file.write_all(piece))?;
        let target = state.content(whole(content), false);
        // The file was not there, so that is what its name stood for.
        state.names.entry(path.to_path_buf()).or_insert(Name { synced: Target::Nothing, since: Vec::new() });
        state.turn(path, target);
        Ok(())
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        match state.target(path) {
            Target::File(number) => state.contents[number].is_synced |= !self.lies,
            Target::Nothing => return Err(ErrorKind::NotFound.into()),
            Target::Folder => {}
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        let target = state.target(from);
        state.target(to);
        fs::rename(from, to)?;
        state.turn(to, target);
        state.turn(from, Target::Nothing);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        let target = state.target(from);
        state.target(to);
        fs::hard_link(from, to)?;
        state.turn(to, target);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        state.target(path);
        fs::remove_file(path)?;
        state.turn(path, Target::Nothing);
        Ok(())
    }

    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        state.target(folder);
        fs::create_dir(folder)?;
        state.turn(folder, Target::Folder);
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        for (_, name) in state.names.iter_mut().filter(|(path, _)| !self.lies && path.parent() == Some(folder)) {
            if let Some(last) = name.since.pop() {
                (name.synced, name.since) = (last, Vec::new());
            }
        }
        Ok(())
    }
}
