use super::*;

use futures::TryStreamExt;

const DISK: SystemDisk = SystemDisk { syncs: true };

/// A disk that writes down what it is asked.
#[derive(Debug, Default)]
struct Log(Mutex<Vec<String>>);

impl Log {
    fn line(&self, what: &str, path: &FilePath) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.0.lock().unwrap().push(format!("{what} {name}"));
    }
}

impl Disk for Log {
    fn write(&self, path: &FilePath, content: &PutPayload) -> io::Result<()> {
        DISK.write(path, content)?;
        self.line("write", path);
        Ok(())
    }
    fn sync_file(&self, path: &FilePath) -> io::Result<()> {
        self.line("sync", path);
        Ok(())
    }
    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        self.line("rename to", to);
        DISK.rename(from, to)
    }
    fn link(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        self.line("link", to);
        DISK.link(from, to)
    }
    fn remove(&self, path: &FilePath) -> io::Result<()> {
        self.line("remove", path);
        DISK.remove(path)
    }
    fn make_folder(&self, folder: &FilePath) -> io::Result<()> {
        self.line("make", folder);
        DISK.make_folder(folder)
    }
    fn sync_folder(&self, folder: &FilePath) -> io::Result<()> {
        self.line("sync", folder);
        Ok(())
    }
}

/// A disk that finds out when it syncs that a Parquet file does not fit.
#[derive(Debug)]
struct Full;

impl Disk for Full {
    fn write(&self, path: &FilePath, content: &PutPayload) -> io::Result<()> {
        DISK.write(path, content)
    }
    fn sync_file(&self, path: &FilePath) -> io::Result<()> {
        if may_wait(path) { Err(io::Error::other("no room")) } else { Ok(()) }
    }
    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        DISK.rename(from, to)
    }
    fn link(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        DISK.link(from, to)
    }
    fn remove(&self, path: &FilePath) -> io::Result<()> {
        DISK.remove(path)
    }
    fn make_folder(&self, folder: &FilePath) -> io::Result<()> {
        DISK.make_folder(folder)
    }
    fn sync_folder(&self, _: &FilePath) -> io::Result<()> {
        Ok(())
    }
}

fn path(folder: &FilePath, name: &str) -> Path {
    Path::from_absolute_path(folder.join(name)).unwrap()
}

async fn read(store: &Durable, path: &Path) -> Bytes {
    store.get(path).await.unwrap().bytes().await.unwrap()
}

#[tokio::test]
async fn a_write_counts_when_content_names_and_new_folders_are_synced_in_this_order() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let log = Arc::new(Log::default());
    let store = Durable::new(log.clone());
    let (first, second) = (path(&root, "a/b/one"), path(&root, "a/b/two"));
    store.put(&first, "1".into()).await.unwrap();
    let lines = std::mem::take(&mut *log.0.lock().unwrap());
    let expected = ["make a", "make b", "write one#1", "sync one#1", "rename to one", "sync b", "sync a", "sync root"];
    assert_eq!(lines[..expected.len()], expected, "then what is above");
    let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    store.put_opts(&second, "2".into(), create).await.unwrap();
    let lines = std::mem::take(&mut *log.0.lock().unwrap());
    assert_eq!(lines, ["write two#1", "sync two#1", "link two", "remove two#1", "sync b"]);
}

#[tokio::test]
async fn parquet_files_and_their_folders_are_synced_before_what_names_them_gets_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(Log::default());
    let store = Durable::new(log.clone());
    for name in ["t/_delta_log/00.json", "t/day=1/begin.parquet", "t/_delta_log/01.json"] {
        store.put(&path(folder.path(), name), "1".into()).await.unwrap();
    }
    log.0.lock().unwrap().clear();
    for name in ["t/day=1/a.parquet", "t/day=1/b.parquet", "t/_delta_log/02.json"] {
        store.put(&path(folder.path(), name), "1".into()).await.unwrap();
    }
    let mut lines: Vec<String> = std::mem::take(&mut *log.0.lock().unwrap());
    // They are synced side by side.
    lines[6..8].sort();
    let synced_and_named: Vec<&str> = lines.iter().skip(4).map(String::as_str).collect();
    let contents = ["write 02.json#1", "sync 02.json#1", "sync a.parquet", "sync b.parquet"];
    assert_eq!(synced_and_named[..4], contents);
    assert_eq!(synced_and_named[4..], ["sync day=1", "rename to 02.json", "sync _delta_log"]);
    store.put(&path(folder.path(), "t/_delta_log/02.checkpoint.parquet"), "1".into()).await.unwrap();
    assert_eq!(log.0.lock().unwrap().last().unwrap(), "sync _delta_log", "which readers find by its name");
}

#[tokio::test]
async fn a_parquet_file_is_synced_before_it_gets_another_name_and_what_cannot_be_is_told_ever_after() {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(Log::default());
    let store = Durable::new(log.clone());
    let [staged, placed, next] = ["s/one.parquet", "m/one.parquet", "next.json"].map(|name| path(folder.path(), name));
    store.put(&staged, "1".into()).await.unwrap();
    store.rename(&staged, &placed).await.unwrap();
    let lines = std::mem::take(&mut *log.0.lock().unwrap());
    let expected = [
        "make s",
        "write one.parquet#1",
        "rename to one.parquet",
        "make m",
        "sync one.parquet",
        "rename to one.parquet",
    ];
    assert_eq!(lines, expected);

    let store = Durable::new(Arc::new(Full));
    store.put(&staged, "1".into()).await.unwrap();
    for _ in 0..2 {
        let error = store.put(&next, "1".into()).await.unwrap_err().to_string();
        assert!(error.contains("no room"), "{error}");
    }
}

#[test]
fn a_disk_that_does_not_sync_asks_nothing_of_the_system() {
    let missing = FilePath::new("/no such folder/file");
    let [syncing, other] = [true, false].map(|syncs| SystemDisk { syncs });
    assert!(syncing.sync_file(missing).is_err() && syncing.sync_folder(missing).is_err());
    assert!(other.sync_file(missing).is_ok() && other.sync_folder(missing).is_ok());
}

#[tokio::test]
async fn objects_are_made_replaced_copied_renamed_and_removed_as_in_any_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = Durable::new(Arc::new(DISK));
    let [one, two, three] = ["x/one", "y/two", "z/three"].map(|name| path(folder.path(), name));
    let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    store.put_opts(&one, "1".into(), create()).await.unwrap();
    let error = store.put_opts(&one, "2".into(), create()).await.unwrap_err();
    assert!(matches!(error, object_store::Error::AlreadyExists { .. }), "{error}");
    assert_eq!(read(&store, &one).await, "1");
    let put = store.put(&one, "3".into()).await.unwrap();
    assert_eq!(put.e_tag, store.head(&one).await.unwrap().e_tag);
    store.copy(&one, &two).await.unwrap();
    assert!(store.copy_if_not_exists(&one, &two).await.is_err());
    store.put(&one, "4".into()).await.unwrap();
    assert_eq!(read(&store, &two).await, "3", "a copy stays what it was");
    store.copy(&one, &two).await.unwrap();
    store.rename(&one, &three).await.unwrap();
    assert!(store.rename_if_not_exists(&two, &three).await.is_err());
    assert!(matches!(store.rename(&one, &two).await, Err(object_store::Error::NotFound { .. })));
    assert_eq!(read(&store, &three).await, "4");
    let mut upload = store.put_multipart(&one).await.unwrap();
    upload.put_part("5".into()).await.unwrap();
    upload.put_part("6".into()).await.unwrap();
    assert!(store.head(&one).await.is_err(), "not before it is complete");
    upload.complete().await.unwrap();
    assert_eq!(read(&store, &one).await, "56");
    store.delete(&two).await.unwrap();
    assert!(matches!(store.delete(&two).await, Err(object_store::Error::NotFound { .. })));
    let all = Path::from_absolute_path(folder.path()).unwrap();
    let found: Vec<ObjectMeta> = store.list(Some(&all)).try_collect().await.unwrap();
    assert_eq!(found.len(), 2);
}

#[tokio::test]
async fn folders_that_went_meanwhile_are_made_and_synced_again() {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(Log::default());
    let store = Durable::new(log.clone());
    let one = path(folder.path(), "day/one");
    store.put(&one, "1".into()).await.unwrap();
    std::fs::remove_dir_all(folder.path().join("day")).unwrap();
    log.0.lock().unwrap().clear();
    store.put(&one, "2".into()).await.unwrap();
    let name = folder.path().file_name().unwrap().to_string_lossy();
    let lines = std::mem::take(&mut *log.0.lock().unwrap());
    let synced = ["sync one#1", "rename to one", "sync day", &format!("sync {name}")];
    assert_eq!(
        (&lines[..2], &lines[2..]),
        (&["make day".into(), "write one#1".into()][..], &synced.map(String::from)[..])
    );
    assert_eq!(read(&store, &one).await, "2");
}
