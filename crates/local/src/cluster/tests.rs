//! Against the machine's own PostgreSQL, in temporary directories.

use super::*;

/// A directory that the server's account may enter.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    directory
}

async fn query(cluster: &Cluster, database: &str, statement: &str) -> Result<(), String> {
    wire::execute(cluster.port, &cluster.password, database, statement)
        .await
        .map_err(|e| e.to_string())?
        .map_err(|complaint| complaint.message)
}

#[tokio::test]
async fn a_cluster_is_made_stopped_and_found_again_with_what_was_in_it() {
    let directory = directory();
    let options = Options::throwaway(directory.path().join("postgres"));
    let mut cluster = Cluster::start(options.clone()).await.unwrap();
    cluster.ensure_database("postern").await.unwrap();
    cluster.ensure_database("postern").await.expect("asking twice is no fault");
    query(&cluster, "postern", "CREATE TABLE kept ()").await.unwrap();
    cluster.stop().await.unwrap();
    cluster.stop().await.expect("stopping twice is no fault");
    drop(cluster);

    let cluster = Cluster::start(options).await.unwrap();

    query(&cluster, "postern", "TABLE kept").await.expect("the table is still there");
}

#[tokio::test]
async fn a_directory_has_one_owner_at_a_time() {
    let directory = directory();
    let options = Options::throwaway(directory.path().join("postgres"));
    let _cluster = Cluster::start(options.clone()).await.unwrap();
    let second = Cluster::start(options).await;
    assert!(matches!(second, Err(Error::InUse(_))), "{second:?}");
}

#[tokio::test]
async fn a_server_whose_owner_was_killed_is_taken_over() {
    let directory = directory();
    let options = Options::throwaway(directory.path().join("postgres"));
    let mut cluster = Cluster::start(options.clone()).await.unwrap();
    let (port, pid) = (cluster.port, Postmaster::of(&cluster.data()).unwrap().pid);
    cluster.running = false; // As if killed: nobody tells the server.
    drop(cluster);

    let mut again = Cluster::start(options).await.unwrap();

    assert_eq!((again.port, Postmaster::of(&again.data()).unwrap().pid), (port, pid));
    again.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_comes_back_on_its_port() {
    let directory = directory();
    let mut cluster =
        Cluster::start(Options::throwaway(directory.path().join("postgres"))).await.unwrap();
    cluster.ensure_database("kept").await.unwrap();
    let port = cluster.port();
    cluster.kill().await.unwrap();
    query(&cluster, "kept", "").await.expect_err("nobody is there");

    cluster.resume().await.unwrap();

    assert_eq!(cluster.port(), port);
    query(&cluster, "kept", "").await.unwrap();
}

#[tokio::test]
async fn the_password_is_asked_for_and_readable_by_its_owner_only() {
    let directory = directory();
    let cluster =
        Cluster::start(Options::throwaway(directory.path().join("postgres"))).await.unwrap();
    let refused = wire::execute(cluster.port, "guessed", "postgres", "").await.unwrap();
    assert_eq!(refused.unwrap_err().code, "28P01"); // invalid_password
    let mode = fs::metadata(cluster.home.join("password")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

#[tokio::test]
async fn a_name_that_would_need_quoting_is_refused() {
    let directory = directory();
    let cluster =
        Cluster::start(Options::throwaway(directory.path().join("postgres"))).await.unwrap();
    for name in ["", "Postern", "a\"b", &"x".repeat(64)] {
        let refused = cluster.ensure_database(name).await;
        assert!(matches!(refused, Err(Error::Name(_))), "{name:?} {refused:?}");
    }
}

#[tokio::test]
async fn a_cluster_of_another_version_is_named_and_left_alone() {
    let directory = directory();
    let home = directory.path().join("postgres");
    fs::create_dir_all(home.join("data")).unwrap();
    fs::write(home.join("data/PG_VERSION"), "9\n").unwrap();
    let refused = Cluster::start(Options::throwaway(&home)).await.unwrap_err();
    assert!(matches!(&refused, Error::Version { made_by, .. } if made_by == "9"), "{refused}");
    assert!(home.join("data/PG_VERSION").exists());
}

#[test]
fn root_keeps_a_cluster_out_of_a_private_directory_and_leaves_a_link() {
    let account = Account::choose().unwrap();
    if !account.is_other() {
        return; // Only root hands its clusters to another account.
    }
    let (private, elsewhere) = (tempfile::tempdir().unwrap(), directory());
    fs::set_permissions(private.path(), Permissions::from_mode(0o700)).unwrap();
    let asked = private.path().join("clone/.postern/postgres");

    let first = home(&asked, &account, elsewhere.path()).unwrap();
    let second = home(&asked, &account, elsewhere.path()).unwrap();

    assert!(first.starts_with(elsewhere.path()), "{first:?}");
    assert_eq!(first, second);
    assert_eq!(asked.canonicalize().unwrap(), first.canonicalize().unwrap());
}

#[tokio::test]
async fn a_pid_file_whose_number_went_to_another_program_does_not_stop_a_start() {
    let directory = directory();
    let options = Options::throwaway(directory.path().join("postgres"));
    let mut cluster = Cluster::start(options.clone()).await.unwrap();
    cluster.stop().await.unwrap();
    // This very process: alive, and no database.
    let stale = format!("{}\n/nowhere\n0\n1\n\n127.0.0.1\n", std::process::id());
    fs::write(cluster.data().join("postmaster.pid"), stale).unwrap();

    cluster.resume().await.unwrap();
}
