//! The `tcpstall` binary.

fn main() -> std::process::ExitCode {
    detector::cli::run()
}
