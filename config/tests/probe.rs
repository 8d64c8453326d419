//! probe
use greenroom_config::*;
#[test]
fn probe() {
    let text = std::fs::read_to_string("/tmp/bad.toml").unwrap();
    println!("{}", load_text(&text, std::path::Path::new("/srv")).unwrap_err().render(false));
    for sample in ["minimal", "team"] {
    let mut o = LoadOptions { files: vec![format!("samples/{sample}.toml").into()], ..Default::default() };
    o.env = vec![("LINUX_1_PASSWORD".into(), "a".into()), ("LINUX_2_PASSWORD".into(), "a".into()),];
    println!("{}", check::run(&o, check::Format::Text{color: false}).text);
    }
}
