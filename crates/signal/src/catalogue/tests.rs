#[test]
fn the_built_in_catalogue_compiles() {
    let made = super::Catalogue::compile(&[]);
    if let Err(mistakes) = made { panic!("{mistakes}") }
}
