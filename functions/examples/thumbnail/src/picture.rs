//! Decodes, shrinks and encodes images. Pure: bytes in, bytes out.

use std::io::Cursor;

use image::{
    DynamicImage, ImageDecoder, ImageFormat, ImageReader, ImageResult, Limits,
    codecs::jpeg::JpegEncoder, metadata::Orientation,
};

/// The largest decoded image, in bytes: 22 megapixels of RGB. A file of a few kilobytes can claim to be of any size.
const DECODED_MAX: u64 = 64 << 20;

/// Of 100: below, the edges of thumbnails show; above, only the files grow.
const JPEG_QUALITY: u8 = 80;

/// A decoded image.
pub struct Picture {
    image: DynamicImage,
    /// How the camera was held; the pixels are as the sensor saw them.
    orientation: Orientation,
    format: ImageFormat,
}

impl Picture {
    /// Decodes a JPEG or a PNG, whatever its name says.
    pub fn decode(bytes: &[u8]) -> ImageResult<Self> {
        let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
        let mut limits = Limits::default();
        limits.max_alloc = Some(DECODED_MAX);
        reader.limits(limits.clone());
        let format = reader.format();
        let mut decoder = reader.into_decoder()?;
        limits.reserve(decoder.total_bytes())?;
        let orientation = decoder.orientation()?;
        let image = DynamicImage::from_decoder(decoder)?;
        let format = if format == Some(ImageFormat::Jpeg) {
            ImageFormat::Jpeg
        } else {
            ImageFormat::Png
        };
        Ok(Self {
            image,
            orientation,
            format,
        })
    }

    /// The extension of its format, without a dot.
    pub fn extension(&self) -> &'static str {
        match self.format {
            ImageFormat::Jpeg => "jpg",
            _ => "png",
        }
    }

    /// The image at that width, upright, encoded in its own format. One that is narrower keeps its size.
    pub fn shrunk(&self, width: u32) -> ImageResult<Vec<u8>> {
        let (w, h) = (self.image.width(), self.image.height());
        // Turning the thumbnail is cheaper than turning the image, so width and height are swapped before.
        let (w, h) = if lies_on_its_side(self.orientation) {
            let (w, h) = shrunk_size((h, w), width);
            (h, w)
        } else {
            shrunk_size((w, h), width)
        };
        let mut small = self.image.thumbnail_exact(w, h);
        small.apply_orientation(self.orientation);

        let mut bytes = Cursor::new(Vec::new());
        match self.format {
            ImageFormat::Jpeg => {
                small
                    .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))?;
            }
            format => small.write_to(&mut bytes, format)?,
        }
        Ok(bytes.into_inner())
    }
}

fn lies_on_its_side(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(
        orientation,
        Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH
    )
}

/// The size of an image shrunk to `width`, never more than it is, at least one pixel.
fn shrunk_size((w, h): (u32, u32), width: u32) -> (u32, u32) {
    if width >= w {
        return (w, h);
    }
    let (w, h, width) = (u64::from(w), u64::from(h), u64::from(width));
    let height = ((h * width + w / 2) / w).max(1);
    (width as u32, u32::try_from(height).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(w: u32, h: u32, format: ImageFormat) -> Vec<u8> {
        let image = image::RgbImage::from_fn(w, h, |x, y| image::Rgb([x as u8, y as u8, 99]));
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn size_of(bytes: &[u8]) -> (ImageFormat, u32, u32) {
        let reader = ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .unwrap();
        let format = reader.format().unwrap();
        let (w, h) = reader.into_dimensions().unwrap();
        (format, w, h)
    }

    #[test]
    fn the_ratio_is_kept_and_no_side_vanishes() {
        for (size, width, expected) in [
            ((400, 300), 64, (64, 48)),
            ((300, 400), 64, (64, 85)),
            ((1000, 3), 64, (64, 1)),
            ((3, 1000), 64, (3, 1000)),
            ((64, 10), 64, (64, 10)),
            ((4_000_000_000, 1), 1, (1, 1)),
        ] {
            assert_eq!(shrunk_size(size, width), expected, "{size:?} at {width}");
        }
    }

    #[test]
    fn a_thumbnail_has_the_format_of_its_source() {
        for (format, extension) in [(ImageFormat::Jpeg, "jpg"), (ImageFormat::Png, "png")] {
            let picture = Picture::decode(&encoded(200, 100, format)).unwrap();
            assert_eq!(picture.extension(), extension);
            assert_eq!(size_of(&picture.shrunk(64).unwrap()), (format, 64, 32));
            assert_eq!(size_of(&picture.shrunk(999).unwrap()), (format, 200, 100));
        }
    }

    #[test]
    fn an_image_on_its_side_is_put_upright() {
        let mut picture = Picture::decode(&encoded(200, 100, ImageFormat::Png)).unwrap();
        picture.orientation = Orientation::Rotate90;
        assert_eq!(
            size_of(&picture.shrunk(50).unwrap()),
            (ImageFormat::Png, 50, 100)
        );
    }

    #[test]
    fn what_is_no_image_says_so() {
        let mut cut = encoded(200, 100, ImageFormat::Png);
        cut.truncate(cut.len() / 2);
        for bytes in [&b""[..], b"GIF89a", b"not an image", &cut] {
            let reason = Picture::decode(bytes).err().expect("an error").to_string();
            assert!(!reason.is_empty());
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        // A PNG whose header claims 60,000 x 60,000 pixels.
        let mut bomb = encoded(8, 8, ImageFormat::Png);
        bomb[16..24].copy_from_slice(&[0, 0, 0xEA, 0x60, 0, 0, 0xEA, 0x60]);
        let crc = crc32(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&crc.to_be_bytes());
        let reason = Picture::decode(&bomb).err().expect("an error").to_string();
        assert!(reason.contains("limit"), "{reason}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
            })
        })
    }
}
