//! The PROXY protocol v2 header that tells a target who is really calling (spec 5.4).
//!
//! It is byte for byte what AWS sends for an endpoint's connection: 100 bytes, with a CRC32C, the
//! endpoint's id in AWS's own TLV, and padding to a fixed length. It comes before anything that the
//! client sends; a header that the client itself begins with is left where it is, and never believed.

use std::net::SocketAddrV4;

use postern_model::id::EndpointId;

/// The length of every header.
pub const LENGTH: usize = 100;

const SIGNATURE: [u8; 12] =
    [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
/// Version 2, command PROXY.
const VERSION_AND_COMMAND: u8 = 0x21;
/// AF_INET, STREAM.
const FAMILY_AND_PROTOCOL: u8 = 0x11;
/// What comes before the bytes that the length field counts.
const FIXED: usize = 16;
const TLV_CRC32C: u8 = 0x03;
const TLV_NOOP: u8 = 0x04;
const TLV_AWS: u8 = 0xea;
/// AWS's subtype for the id of a VPC endpoint.
const AWS_ENDPOINT_ID: u8 = 0x01;
/// Where the checksum lies.
const CRC: std::ops::Range<usize> = 31..35;

/// The header for a connection of `client` to the endpoint's interface at `service`.
pub fn header(endpoint: EndpointId, client: SocketAddrV4, service: SocketAddrV4) -> [u8; LENGTH] {
    let mut header = [0; LENGTH];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        header[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
        at
    };
    put(&SIGNATURE);
    put(&[VERSION_AND_COMMAND, FAMILY_AND_PROTOCOL]);
    put(&((LENGTH - FIXED) as u16).to_be_bytes());
    put(&client.ip().octets());
    put(&service.ip().octets());
    put(&client.port().to_be_bytes());
    put(&service.port().to_be_bytes());
    put(&[TLV_CRC32C, 0, 4, 0, 0, 0, 0]);
    // The id is at most 22 characters long, so that everything fits whatever it is.
    let id = endpoint.to_string();
    put(&[TLV_AWS, 0, 1 + id.len() as u8, AWS_ENDPOINT_ID]);
    let used = put(id.as_bytes());
    // The padding's own three bytes of type and length are part of what is left.
    put(&[TLV_NOOP, 0, (LENGTH - used - 3) as u8]);
    let checksum = crc32c(&header);
    header[CRC].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// The table of the Castagnoli polynomial, bits reversed.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0x82f6_3b78 } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};

/// CRC32C (RFC 3720, appendix B.4) of `bytes`.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| (crc >> 8) ^ TABLE[usize::from((crc as u8) ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CRC32C by long division, straight from the polynomial: shares nothing with the table.
    fn by_long_division(bytes: &[u8]) -> u32 {
        let mut remainder = u32::MAX;
        for byte in bytes {
            remainder ^= u32::from(byte.reverse_bits()) << 24;
            for _ in 0..8 {
                let carry = remainder >> 31 == 1;
                remainder <<= 1;
                if carry {
                    remainder ^= 0x1edc_6f41;
                }
            }
        }
        !remainder.reverse_bits()
    }

    fn example() -> [u8; LENGTH] {
        header(
            "vpce-0a1b2c3d4e5f60718".parse().unwrap(),
            "10.0.0.17:50123".parse().unwrap(),
            "10.0.0.5:443".parse().unwrap(),
        )
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        // The check values of the CRC catalogue and of RFC 3720, B.4.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(by_long_division(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn the_header_is_the_one_of_the_specification_byte_for_byte() {
        let header = example();
        let mut expected = Vec::new();
        expected.extend_from_slice(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x54");
        expected.extend_from_slice(&[10, 0, 0, 17, 10, 0, 0, 5, 0xc3, 0xcb, 0x01, 0xbb]);
        expected.extend_from_slice(&[3, 0, 4, 0, 0, 0, 0]);
        expected.extend_from_slice(b"\xea\x00\x17\x01vpce-0a1b2c3d4e5f60718");
        expected.extend_from_slice(&[4, 0, 0x24]);
        expected.extend_from_slice(&[0; 36]);
        let checksum = by_long_division(&expected);
        expected[CRC].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(header.to_vec(), expected);
    }

    #[test]
    fn a_short_id_is_padded_to_the_same_length() {
        let short = header(
            "vpce-0ab12cd3".parse().unwrap(),
            "10.0.0.17:50123".parse().unwrap(),
            "10.0.0.5:443".parse().unwrap(),
        );
        assert_eq!(short[35..52], *b"\xea\x00\x0e\x01vpce-0ab12cd3");
        assert_eq!(short[52..55], [4, 0, 45]);
        assert_eq!(short.len(), 55 + 45);
    }
}
