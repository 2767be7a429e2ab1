use super::*;

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("run/tcpstall.sock");
    (folder, path)
}

fn complaint<T>(result: anyhow::Result<T>) -> String {
    match result {
        Ok(_) => panic!("must be refused"),
        Err(error) => format!("{error:#}"),
    }
}

#[tokio::test]
async fn the_folder_is_made_and_the_file_is_for_owner_and_group() {
    let (_folder, path) = place();
    let socket = bind_socket(&path).expect("a socket");
    let metadata = fs::symlink_metadata(&path).expect("it is there");
    assert_eq!(metadata.permissions().mode() & 0o777, MODE);
    assert!(metadata.file_type().is_socket());
    assert_eq!(socket.path(), path);
    std::os::unix::net::UnixStream::connect(&path).expect("it answers");
    let beside = fs::read_dir(path.parent().expect("a folder"))
        .expect("a folder")
        .count();
    assert_eq!(beside, 1, "nothing else is left in the folder");
    drop(socket);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_second_daemon_is_refused() {
    let (_folder, path) = place();
    let _first = bind_socket(&path).expect("a socket");
    let expected = format!(
        "another tcpstall daemon (pid {}) answers on {}; stop it or use --socket",
        std::process::id(),
        path.display()
    );
    assert_eq!(complaint(bind_socket(&path)), expected);
    std::os::unix::net::UnixStream::connect(&path).expect("the first one still answers");
}

#[tokio::test]
async fn a_daemon_with_a_full_queue_is_not_taken_for_dead() {
    let (_folder, path) = place();
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .expect("a socket");
    let address = SocketAddrUnix::new(&path).expect("an address");
    bind(&socket, &address).expect("bound");
    listen(&socket, 0).expect("listens");
    let _queued = std::os::unix::net::UnixStream::connect(&path).expect("one fits");
    assert!(complaint(bind_socket(&path)).contains("another tcpstall daemon listens on"));
}

#[tokio::test]
async fn a_dead_socket_is_taken_over() {
    let (_folder, path) = place();
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    assert!(path.exists());
    let _socket = bind_socket(&path).expect("taken over");
    std::os::unix::net::UnixStream::connect(&path).expect("it answers");
}

#[tokio::test]
async fn a_file_that_is_not_a_socket_is_left_alone() {
    let (_folder, path) = place();
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(&path, "precious").expect("written");
    let expected = "is there and is not a socket; remove it or use --socket";
    assert!(complaint(bind_socket(&path)).ends_with(expected));
    assert_eq!(fs::read(&path).expect("still there"), b"precious");
}

#[tokio::test]
async fn only_the_own_file_is_removed() {
    let (_folder, path) = place();
    let socket = bind_socket(&path).expect("a socket");
    fs::remove_file(&path).expect("removed");
    let _other = std::os::unix::net::UnixListener::bind(&path).expect("another one");
    drop(socket);
    assert!(path.exists());
}

#[tokio::test]
async fn a_path_that_is_too_long_is_said_so() {
    let (folder, _) = place();
    let path = folder.path().join("x".repeat(120));
    let complaint = complaint(bind_socket(&path));
    assert!(
        complaint.contains("the path is too long for a socket"),
        "{complaint}"
    );
}

#[tokio::test]
async fn a_busy_address_is_named() {
    let first = bind_metrics("127.0.0.1:0".parse().expect("address"))
        .await
        .expect("a port");
    let address = first.local_addr().expect("an address");
    let complaint = complaint(bind_metrics(address).await);
    assert!(
        complaint.starts_with(&format!("cannot serve metrics on {address} (")),
        "{complaint}"
    );
    assert!(
        complaint.contains("perhaps another exporter"),
        "{complaint}"
    );
    assert!(
        complaint.ends_with("--metrics-address or metrics_address"),
        "{complaint}"
    );
}

#[tokio::test]
async fn an_address_of_somebody_else_is_named() {
    let address = "192.0.2.77:0".parse().expect("address");
    let complaint = complaint(bind_metrics(address).await);
    assert!(
        complaint.contains("this host has no such address"),
        "{complaint}"
    );
}

#[test]
fn the_group_is_found_by_name() {
    let groups = "root:x:0:\ntcpstall2:x:7:\ntcpstall:x:998:nagios\nbroken\n";
    assert_eq!(group_id(groups, "tcpstall"), Some(998));
    assert_eq!(group_id(groups, "nobody"), None);
    assert_eq!(group_id("tcpstall", "tcpstall"), None);
}
