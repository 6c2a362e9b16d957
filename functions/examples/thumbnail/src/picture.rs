//! Decodes, shrinks and encodes images. Pure: bytes in, bytes out.

use std::{fmt, io::Cursor};

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, ImageResult, Limits,
    codecs::jpeg::JpegEncoder, metadata::Orientation,
};

/// The largest decoded image, in bytes: 25 megapixels of RGB. A file of a few kilobytes can claim to be of any size,
/// and the default memory of a function is 128 MiB.
const DECODED_MAX: u64 = 72 << 20;

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
    pub fn decode(bytes: &[u8]) -> Result<Self, Undecodable> {
        let format = image::guess_format(bytes)?;
        if format == ImageFormat::Jpeg && is_cut_short(bytes) {
            return Err(Undecodable::CutShort);
        }
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        let mut limits = Limits::default();
        limits.max_alloc = Some(DECODED_MAX);
        reader.limits(limits);
        let mut decoder = reader.into_decoder()?;
        if decoder.total_bytes() > DECODED_MAX {
            return Err(Undecodable::TooLarge(decoder.dimensions()));
        }
        let orientation = decoder.orientation()?;
        let image = DynamicImage::from_decoder(decoder)?;
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
        // Turning the thumbnail is cheaper than turning the image, so its sides are swapped before.
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

/// Why bytes are no picture.
#[derive(Debug)]
pub enum Undecodable {
    /// The file ends before its image does.
    CutShort,
    /// Width and height of an image whose pixels would not fit.
    TooLarge((u32, u32)),
    /// What the decoder says.
    Image(ImageError),
}

impl From<ImageError> for Undecodable {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutShort => f.write_str("the JPEG is cut short"),
            Self::TooLarge((w, h)) => write!(
                f,
                "an image of {w} x {h} pixels is more than {} MiB decoded",
                DECODED_MAX >> 20
            ),
            // Some of its texts end in a line break.
            Self::Image(error) => f.write_str(error.to_string().trim_end()),
        }
    }
}

/// Whether a JPEG has no end after its first scan. The decoder would paint what is missing grey and call it a success.
fn is_cut_short(bytes: &[u8]) -> bool {
    // Segments, each a marker and a length, lead to the first scan. They may hold a preview, which has an end of its
    // own.
    let mut rest = bytes.get(2..).unwrap_or_default();
    while let [0xFF, marker, high, low, ..] = *rest {
        let after = 2 + usize::from(u16::from_be_bytes([high, low]));
        if marker == 0xDA {
            return !rest.windows(2).any(|pair| pair == [0xFF, 0xD9]);
        }
        rest = rest.get(after..).unwrap_or_default();
    }
    // No scan at all, or segments the decoder may understand better: its own error will tell.
    false
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
    let height = (u64::from(h) * u64::from(width) + u64::from(w) / 2) / u64::from(w);
    // As the width gets less, so does the height: it fits.
    (width, (height as u32).max(1))
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
        let format = image::guess_format(bytes).unwrap();
        let reader = ImageReader::with_format(Cursor::new(bytes), format);
        let (w, h) = reader.into_dimensions().unwrap();
        (format, w, h)
    }

    fn refusal(bytes: &[u8]) -> String {
        Picture::decode(bytes).err().expect("an error").to_string()
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
            let picture = Picture::decode(&encoded(200, 100, format)).ok().unwrap();
            assert_eq!(picture.extension(), extension);
            assert_eq!(size_of(&picture.shrunk(64).unwrap()), (format, 64, 32));
            assert_eq!(size_of(&picture.shrunk(999).unwrap()), (format, 200, 100));
        }
    }

    #[test]
    fn an_image_on_its_side_is_put_upright() {
        let mut picture = Picture::decode(&encoded(200, 100, ImageFormat::Png))
            .ok()
            .unwrap();
        picture.orientation = Orientation::Rotate90;
        let small = picture.shrunk(50).unwrap();
        assert_eq!(size_of(&small), (ImageFormat::Png, 50, 100));
    }

    #[test]
    fn what_is_no_image_says_so() {
        for bytes in [
            &b""[..],
            b"GIF89a",
            b"not an image",
            b"\xFF\xD8\xFF\xE0garbage",
        ] {
            let reason = refusal(bytes);
            assert!(!reason.is_empty() && !reason.ends_with('\n'), "{reason:?}");
        }
    }

    #[test]
    fn half_an_image_is_none() {
        for format in [ImageFormat::Jpeg, ImageFormat::Png] {
            let whole = encoded(200, 100, format);
            for length in [whole.len() - 20, whole.len() / 2, 40, 3] {
                refusal(&whole[..length]);
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        // A PNG whose header claims 60,000 x 60,000 pixels.
        let mut bomb = encoded(8, 8, ImageFormat::Png);
        bomb[16..24].copy_from_slice(&[0, 0, 0xEA, 0x60, 0, 0, 0xEA, 0x60]);
        let sum = crc32(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&sum.to_be_bytes());
        let reason = refusal(&bomb);
        assert!(reason.contains("60000 x 60000"), "{reason}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
            })
        })
    }
}
