//! `fenghuo replay`.
pub fn run(_: &crate::cli::Replay) -> anyhow::Result<crate::exit::Exit> {
    anyhow::bail!("not built yet")
}
