//! A document that is replaced as a whole, such as what was learned of each upstream.
//!
//! **Invariant:** whoever reads it, at whatever moment, finds the old or the new one, complete.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{make, options, sync_names};

/// The document of that name; the default when there is none, or none that can be read, and then
/// also a sentence for the log. A damaged one is set aside.
pub fn load<T: DeserializeOwned + Default>(folder: &Path, name: &str) -> (T, Option<String>) {
    let path = folder.join(name);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (T::default(), None),
        Err(error) => {
            let sentence = format!(
                "cannot read {}: {error}; going on without what it holds; give the daemon the \
                 right to read it",
                path.display()
            );
            return (T::default(), Some(sentence));
        }
    };
    match serde_json::from_slice(&text) {
        Ok(document) => (document, None),
        Err(error) => {
            let aside = folder.join(format!("{name}.broken"));
            let kept = match fs::rename(&path, &aside) {
                Ok(()) => format!("it is set aside as {}", aside.display()),
                Err(error) => format!("it cannot be set aside ({error}) and will be replaced"),
            };
            let sentence = format!(
                "{} is damaged ({error}): {kept}; going on without what it held",
                path.display()
            );
            (T::default(), Some(sentence))
        }
    }
}

/// Puts `document` in the place of the one of that name.
///
/// # Errors
/// When the folder cannot be written to; the old document stays.
pub fn replace(folder: &Path, name: &str, document: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(document)?;
    text.push(b'\n');
    write(folder, name, &text)
}

/// The same with any text.
///
/// # Errors
/// As above.
pub fn write(folder: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    make(folder)?;
    let path = folder.join(name);
    let next = folder.join(format!("{name}.next"));
    let written = options()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&next)
        .and_then(|mut file| {
            file.write_all(text)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&next, &path));
    if written.is_err() {
        // Half a file is of no use, and a full disk has better ones.
        let _ = fs::remove_file(&next);
    }
    written?;
    sync_names(folder)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const NAME: &str = "baselines.json";

    type Document = BTreeMap<String, f64>;

    fn document(share: f64) -> Document {
        BTreeMap::from([("provider-b".to_owned(), share)])
    }

    #[test]
    fn what_was_written_is_read() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("not/there/yet");
        assert_eq!(load::<Document>(&folder, NAME), (Document::new(), None));
        for share in [0.25, 0.5] {
            replace(&folder, NAME, &document(share)).expect("it can be written");
            assert_eq!(load(&folder, NAME), (document(share), None));
        }
        let left = fs::read_dir(&folder).expect("a folder").count();
        assert_eq!(left, 1, "nothing but the document is left");
    }

    #[test]
    fn a_damaged_one_is_set_aside_and_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(NAME);
        for text in ["", "{", "[1]", "\u{0}\u{1}"] {
            fs::write(&path, text).expect("it can be written");
            let (read, sentence) = load::<Document>(folder.path(), NAME);
            assert_eq!(read, Document::new());
            let sentence = sentence.expect("a sentence");
            assert!(sentence.contains("baselines.json is damaged"), "{sentence}");
            assert!(sentence.contains("baselines.json.broken"), "{sentence}");
            let aside = folder.path().join("baselines.json.broken");
            assert_eq!(fs::read_to_string(aside).expect("it is kept"), text);
            assert!(!path.exists());
        }
        assert_eq!(load::<Document>(folder.path(), NAME).1, None, "said once");
    }

    #[test]
    fn one_that_cannot_be_replaced_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        replace(folder.path(), NAME, &document(0.25)).expect("it can be written");
        // A folder in its place: not even root can open that for writing.
        fs::create_dir(folder.path().join("baselines.json.next")).expect("a folder");
        assert!(replace(folder.path(), NAME, &document(0.5)).is_err());
        assert_eq!(load(folder.path(), NAME), (document(0.25), None));
    }
}
