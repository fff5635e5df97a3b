//! Copies the golden suites of the repository to where maturin packs them from (`include` in `pyproject.toml`), so
//! that a wheel has them and git has them once.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("expected OUT_DIR, which cargo sets"))?;
    for (suite, folder) in [("core", "golden"), ("pictures", "golden-pictures")] {
        let (from, to) = (fixtures.join(folder), Path::new(&out).join("suites").join(suite));
        println!("cargo::rerun-if-changed={}", from.display());
        if to.exists() {
            fs::remove_dir_all(&to)?;
        }
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(&from)? {
            let path = entry?.path();
            let wanted = path.extension().is_some_and(|end| end == "json" || end == "safetensors");
            if let Some(name) = path.file_name().filter(|_| wanted) {
                fs::copy(&path, to.join(name))?;
            }
        }
    }
    Ok(())
}
