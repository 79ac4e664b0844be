use std::fs;

use super::{Error, Permissions, Settings, UndoOutcome, WriteOutcome, replace, undo, write};
use crate::cli::connect::edit::Format;

const THEIRS: &str = "# mine\nother = 1";

struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(text: &str) -> Self {
        let directory = Self::new();
        fs::create_dir(directory.path("tool")).unwrap();
        fs::write(directory.path("tool/file"), text).unwrap();
        directory
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, model: &str) -> Result<WriteOutcome, Error> {
        self.write_with(model, Permissions::Keep)
    }

    fn write_with(&self, model: &str, permissions: Permissions) -> Result<WriteOutcome, Error> {
        let settings = Settings { format: Format::Toml, text: format!("model = \"{model}\"\n"), permissions };
        write(&self.path("state/record.json"), &self.path("tool/file"), &settings)
    }

    fn undo(&self) -> Result<UndoOutcome, Error> {
        undo(&self.path("state/record.json"), Format::Toml)
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path("tool/file")).unwrap()
    }

    fn append(&self, line: &str) {
        fs::write(self.path("tool/file"), self.text() + line).unwrap();
    }
}

#[test]
fn a_new_file_is_removed_by_undo() {
    let directory = Directory::new();
    assert_eq!(directory.write("m").unwrap(), WriteOutcome::Created);
    assert_eq!(directory.text(), "model = \"m\"\n");
    assert_eq!(directory.write("m").unwrap(), WriteOutcome::Unchanged);
    assert!(matches!(directory.undo(), Ok(UndoOutcome::Removed(_))));
    assert!(!directory.path("tool/file").exists());
    assert!(matches!(directory.undo(), Err(Error::NothingToUndo)));
}

#[test]
fn undo_restores_the_original_byte_for_byte_even_after_other_values() {
    let directory = Directory::with(THEIRS);
    let copy = directory.path("tool/file.before-codex-proxy");
    assert_eq!(directory.write("one").unwrap(), WriteOutcome::Changed { copy: Some(copy.clone()) });
    assert_eq!(directory.write("two").unwrap(), WriteOutcome::Changed { copy: Some(copy.clone()) });
    assert!(directory.text().contains("two") && !directory.text().contains("one"));
    assert!(matches!(directory.undo(), Ok(UndoOutcome::Restored(_))));
    assert_eq!((directory.text().as_str(), copy.exists()), (THEIRS, false));
}

#[test]
fn undo_after_an_edit_removes_our_settings_and_keeps_the_edit() {
    let directory = Directory::with(THEIRS);
    directory.write("m").unwrap();
    directory.append("later = 2\n");
    let Ok(UndoOutcome::Stripped { copy: Some(copy), .. }) = directory.undo() else { panic!("not stripped") };
    assert_eq!(directory.text(), "# mine\nother = 1\nlater = 2\n");
    assert_eq!(fs::read_to_string(copy).unwrap(), THEIRS, "the saved original stays");
    assert!(matches!(directory.undo(), Err(Error::NothingToUndo)));
}

#[test]
fn undo_after_an_edit_and_a_second_write_leaves_nothing_of_ours() {
    let directory = Directory::with(THEIRS);
    directory.write("one").unwrap();
    directory.append("later = 2\n");
    let copy = directory.path("tool/file.before-codex-proxy-2");
    assert_eq!(directory.write("two").unwrap(), WriteOutcome::Changed { copy: Some(copy) });
    assert!(directory.text().contains("two") && directory.text().contains("later"));
    assert!(matches!(directory.undo(), Ok(UndoOutcome::Restored(_))));
    assert_eq!(directory.text(), "# mine\nother = 1\nlater = 2\n");
}

#[test]
fn a_value_that_the_user_changed_comes_back_after_a_second_write() {
    let directory = Directory::with(THEIRS);
    directory.write("one").unwrap();
    fs::write(directory.path("tool/file"), directory.text().replace("one", "mine")).unwrap();
    directory.write("two").unwrap();
    directory.undo().unwrap();
    assert_eq!(directory.text(), "# mine\nother = 1\nmodel = \"mine\"\n");
}

#[test]
fn undo_without_the_saved_copy_removes_only_our_settings() {
    let directory = Directory::with(THEIRS);
    directory.write("one").unwrap();
    fs::remove_file(directory.path("tool/file.before-codex-proxy")).unwrap();
    assert!(matches!(directory.undo(), Ok(UndoOutcome::Stripped { copy: None, .. })));
    assert_eq!(directory.text(), "# mine\nother = 1\n");
}

#[test]
fn a_file_that_is_new_and_was_edited_keeps_the_edit() {
    let directory = Directory::new();
    directory.write("m").unwrap();
    directory.append("later = 2\n");
    assert!(matches!(directory.undo(), Ok(UndoOutcome::Stripped { copy: None, .. })));
    assert_eq!(directory.text(), "later = 2\n");
}

#[test]
fn a_value_that_our_setting_replaced_comes_back() {
    let directory = Directory::with("model = \"theirs\" # why\n");
    directory.write("m").unwrap();
    directory.append("later = 2\n");
    directory.undo().unwrap();
    assert_eq!(directory.text(), "model = \"theirs\" # why\nlater = 2\n");
}

#[test]
fn a_record_of_the_first_release_restores_only_a_file_that_was_not_changed_since() {
    let directory = Directory::with(THEIRS);
    directory.write("m").unwrap();
    let path = directory.path("state/record.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record.as_object_mut().unwrap().retain(|name, _| ["file", "copy", "sha256"].contains(&name.as_str()));
    fs::write(&path, record.to_string()).unwrap();
    let written = directory.text();
    directory.append("later = 2\n");
    let error = directory.undo().unwrap_err().to_string();
    assert!(error.contains("changed since") && error.contains("file.before-codex-proxy"), "{error}");
    fs::write(directory.path("tool/file"), written).unwrap();
    assert!(matches!(directory.undo(), Ok(UndoOutcome::Restored(_))));
}

#[test]
fn a_change_of_another_program_is_not_overwritten() {
    let directory = Directory::with("now\n");
    let file = directory.path("tool/file");
    assert!(matches!(replace(&file, b"ours", Some(b"before\n"), None), Err(Error::Concurrent(_))));
    assert!(matches!(replace(&file, b"ours", None, None), Err(Error::Concurrent(_))));
    assert_eq!(directory.text(), "now\n");
    assert_eq!(fs::read_dir(directory.path("tool")).unwrap().count(), 1, "no temporary file stays");
    replace(&file, b"ours", Some(b"now\n"), None).unwrap();
    assert_eq!(directory.text(), "ours");
}

#[test]
fn a_file_that_can_not_be_edited_is_not_changed() {
    let directory = Directory::with(THEIRS);
    fs::write(directory.path("tool/file"), [0xff]).unwrap();
    assert!(matches!(directory.write("m"), Err(Error::NotText(_))));
    assert_eq!(fs::read(directory.path("tool/file")).unwrap(), [0xff]);
    assert!(!directory.path("state/record.json").exists());
}

#[cfg(unix)]
mod permissions {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::{Directory, Permissions, THEIRS, WriteOutcome};

    fn mode(path: impl AsRef<Path>) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn permissions_and_links_stay_and_a_new_file_is_private() {
        let directory = Directory::with(THEIRS);
        fs::rename(directory.path("tool/file"), directory.path("dotfile")).unwrap();
        std::os::unix::fs::symlink(directory.path("dotfile"), directory.path("tool/file")).unwrap();
        fs::set_permissions(directory.path("dotfile"), fs::Permissions::from_mode(0o640)).unwrap();
        directory.write("m").unwrap();
        assert!(directory.path("tool/file").is_symlink());
        let copy = directory.path("dotfile.before-codex-proxy");
        assert_eq!((mode(directory.path("dotfile")), mode(copy)), (0o640, 0o640));
        directory.undo().unwrap();
        assert_eq!((directory.text().as_str(), mode(directory.path("dotfile"))), (THEIRS, 0o640));
        let new = Directory::new();
        new.write("m").unwrap();
        assert_eq!(mode(new.path("tool/file")), 0o600);
    }

    #[test]
    fn a_file_that_gets_a_key_becomes_private_and_undo_restores_its_permissions() {
        let directory = Directory::with(THEIRS);
        let file = directory.path("tool/file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        directory.write_with("m", Permissions::Private).unwrap();
        assert_eq!(mode(&file), 0o600);
        assert_eq!(directory.write_with("m", Permissions::Private).unwrap(), WriteOutcome::Unchanged);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(directory.write_with("m", Permissions::Private).unwrap(), WriteOutcome::Unchanged);
        assert_eq!(mode(&file), 0o600);
        directory.undo().unwrap();
        assert_eq!((directory.text().as_str(), mode(&file)), (THEIRS, 0o644));
    }
}
