//! Python for the tests that hold us against other tools.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python with the packages of a file of requirements. They come from PyPI into a virtual environment under the target
/// folder, once.
pub fn python(requirements: &str) -> PathBuf {
    let folder = Path::new(requirements).parent().and_then(Path::file_name).unwrap();
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join(requirements);
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python").join(folder);
    let installed = home.join("installed.txt");
    let wanted = std::fs::read_to_string(&requirements).unwrap();
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return home.join("bin/python");
    }
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(&home));
    run(Command::new(home.join("bin/python")).args(["-m", "pip", "install", "--quiet", "-r"]).arg(&requirements));
    std::fs::write(installed, wanted).unwrap();
    home.join("bin/python")
}
