//! Files of ours: only those whose names are ours, and directories that are empty then.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::attached::BOOT;
use crate::brake;
use crate::config::Config;
use crate::{pause, southbound};

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    /// The directory of the records.
    pub(super) attached: PathBuf,
    found: Vec<PathBuf>,
    untold: usize,
    /// Those within others first.
    dirs: Vec<PathBuf>,
}

impl Files {
    /// What a configuration's agent may have made.
    pub(crate) fn of(config: &Config) -> anyhow::Result<Self> {
        let state = &config.state_dir;
        let [attached, queue] = ["attached", "queue"].map(|name| state.join(name));
        let mut found = Vec::new();
        for dir in [&attached, &queue, &config.tombstones] {
            found.extend(files(dir).with_context(|| format!("cannot list {}", dir.display()))?);
        }
        let is_untold = |path: &&PathBuf| {
            let is_whole =
                path.file_name().is_some_and(|it| !it.as_encoded_bytes().starts_with(b"."));
            is_whole && [&queue, &config.tombstones].iter().any(|dir| path.starts_with(dir))
        };
        let untold = found.iter().filter(is_untold).count();
        let mut socket_aside = config.cni_socket.clone().into_os_string();
        socket_aside.push(".new");
        let single = [
            state.join("view"),
            state.join(".view.new"),
            state.join(BOOT),
            state.join(format!(".{BOOT}.new")),
            state.join(southbound::FILE),
            state.join(format!(".{}.new", southbound::FILE)),
            state.join(pause::FILE),
            state.join(format!(".{}.new", pause::FILE)),
            config.cni_socket.clone(),
            socket_aside.into(),
        ];
        let single = single.into_iter().chain(brake::files(state));
        found.extend(single.filter(|path| path.symlink_metadata().is_ok()));
        let mut dirs = vec![attached.clone(), queue, config.tombstones.clone(), state.clone()];
        dirs.extend(config.cni_socket.parent().map(Path::to_owned));
        Ok(Self { attached, found, untold, dirs })
    }

    /// How many of them are to be told to the store.
    pub(crate) fn untold(&self) -> usize {
        self.untold
    }

    /// All of them, and the directories.
    pub(super) fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.found.iter().chain(self.dirs.iter().filter(|dir| dir.exists()))
    }

    /// Removes them. A directory that holds something else stays.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        let there = |removed: io::Result<()>, kept: &[ErrorKind]| match removed {
            Err(error) if kept.contains(&error.kind()) => Ok(()),
            removed => removed,
        };
        for path in &self.found {
            there(fs::remove_file(path), &[ErrorKind::NotFound])
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
        for dir in &self.dirs {
            there(fs::remove_dir(dir), &[ErrorKind::NotFound, ErrorKind::DirectoryNotEmpty])
                .with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        Ok(())
    }
}

/// Plain files of a directory that only we write to; none if there is no such directory.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_goes_and_what_somebody_else_left_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for path in ["state/attached", "state/queue", "state/tombstones", "run"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        let config = Config {
            state_dir: at("state"),
            tombstones: at("state/tombstones"),
            cni_socket: at("run/cni.sock"),
            ..Config::sample()
        };
        for file in [
            "attached/c1",
            "queue/1",
            "queue/.2.new",
            "tombstones/c2@eth0.json",
            "view",
            "paused",
            "southbound",
            "brake",
            "brake.released",
        ] {
            fs::write(at("state").join(file), "").unwrap();
        }
        fs::write(at("run/cni.sock"), "").unwrap();
        fs::write(at("run/theirs"), "").unwrap();
        let files = Files::of(&config).unwrap();
        assert_eq!((files.all().count(), files.untold()), (10 + 5, 2));
        files.remove().unwrap();
        files.remove().unwrap();
        let left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(left, ["run"]);
        assert!(at("run/theirs").exists() && !at("run/cni.sock").exists());
        assert_eq!(Files::of(&config).unwrap().all().count(), 1, "a directory of others");
    }
}
