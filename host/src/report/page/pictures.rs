//! Pictures inside the page: the distilled images by class, and images under attack.

use super::text::escaped;
use crate::{
    engine::Examples,
    run::{encode_png, levels, sheet, unreadable},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use guard_sdk::{Result, Tensor};
use std::{fmt::Write, fs, path::Path};

/// So many classes, and images of each, are shown.
const CLASSES: usize = 20;
const IMAGES: i64 = 10;

/// A PNG as an element of the class `class`.
pub fn picture(png: &[u8], class: &str, alternative: &str) -> String {
    let data = STANDARD.encode(png);
    format!("<img class=\"{class}\" src=\"data:image/png;base64,{data}\" alt=\"{}\">", escaped(alternative))
}

/// The images `[N,C,H,W]` of each class in a row, with their names.
pub fn distilled(variant: &str, classes: &[String], images: &Tensor, labels: &[i64]) -> Result<String> {
    let variant = escaped(variant);
    let mut html = "<figure><div class=\"wide\"><table class=\"strips\">\n".to_string();
    let bytes = levels(images);
    for (class, name) in classes.iter().enumerate().take(CLASSES) {
        let own: Vec<i64> =
            (0..).zip(labels).filter(|(_, label)| **label == class as i64).map(|(place, _)| place).collect();
        let shown = own.len().min(IMAGES as usize);
        if shown == 0 {
            continue;
        }
        let strip = bytes.f_index_select(0, &Tensor::f_from_slice(&own[..shown])?)?;
        let strip = picture(
            &encode_png(&sheet(&strip, shown as i64)?)?,
            "strip",
            &format!("distilled images of {name}"),
        );
        let _ = writeln!(html, "<tr><th>{}</th><td>{strip}</td></tr>", escaped(name));
    }
    let _ = write!(html, "</table></div><figcaption>{variant}: ");
    let (all, count) = (classes.len(), labels.len());
    let _ = match all > CLASSES {
        true => write!(html, "{CLASSES} of {all} classes, {count} images in all"),
        false => write!(html, "{count} images"),
    };
    html.push_str("</figcaption></figure>\n");
    Ok(html)
}

/// Images before and after each attack, with what the network takes them for.
pub fn attacked(classes: &[String], examples: &Examples, file: &Path) -> Result<String> {
    let png = fs::read(file).map_err(|error| unreadable(file, error))?;
    let name =
        |class: &i64| classes.get(*class as usize).map_or_else(|| class.to_string(), |name| escaped(name));
    let mut html = format!(
        "<figure><div class=\"wide\">{}</div><figcaption>first row: {}",
        picture(&png, "sheet", "images before and after each attack, and the difference, enlarged"),
        examples.labels.iter().map(name).collect::<Vec<_>>().join(", ")
    );
    let norm = examples.norm.name();
    for (attack, predicted) in &examples.attacks {
        let taken = predicted.iter().map(name).collect::<Vec<_>>().join(", ");
        let _ = write!(
            html,
            "<br>under {} ({norm}, ε = {:.4}), with the difference enlarged below, taken for: {taken}",
            escaped(attack),
            examples.epsilon
        );
    }
    Ok(html + "</figcaption></figure>\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_sdk::{Device, Kind};

    #[test]
    fn every_class_that_has_images_has_a_row() {
        let images = Tensor::rand([3, 1, 4, 4], (Kind::Float, Device::Cpu));
        let classes = ["cat & dog", "none", "bird"].map(String::from);
        let html = distilled("a", &classes, &images, &[0, 2, 2]).unwrap();
        assert_eq!(html.matches("<img").count(), 2);
        assert!(html.contains("<th>cat &amp; dog</th>") && !html.contains("none"), "{html}");
    }
}
