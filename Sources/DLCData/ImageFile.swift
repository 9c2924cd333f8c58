import CPNG
import CTurboJPEG
import DLCFormats
package import DLCTensor

/// A PNG or JPEG file, told apart by its content. Pixels are 8 bits for each channel, in sRGB as the file
/// has them; 16-bit ones are rounded, and what is transparent lies on black.
package struct ImageFile {
  private enum Format { case png, jpeg }

  package let path: String
  package let height: Int
  package let width: Int
  /// Whether the file has colours: its natural number of channels is then 3, else 1.
  package let isColoured: Bool
  private let format: Format
  private let file: MappedFile

  /// Reads what the file says of itself.
  /// - Throws: `.file` when it cannot be read, `.format` when it is no picture, damaged or cut short.
  package init(_ path: String) throws(DLCError) {
    self.path = path
    file = try MappedFile(path)
    let bytes = file.bytes
    if bytes.count >= 8, bytes[..<8].elementsEqual(Self.signature) {
      format = .png
      try Self.requireWhole(bytes, path)
      var image = png_image()
      image.version = png_uint_32(PNG_IMAGE_VERSION)
      defer { png_image_free(&image) }
      guard png_image_begin_read_from_memory(&image, bytes.baseAddress, bytes.count) != 0 else {
        throw Self.damaged(path, Self.message(image))
      }
      (height, width) = (Int(image.height), Int(image.width))
      isColoured = image.format & 2 != 0
    } else if bytes.count >= 3, bytes[0] == 0xff, bytes[1] == 0xd8, bytes[2] == 0xff {
      format = .jpeg
      guard let decoder = tjInitDecompress() else {
        throw DLCError(.memory, "TurboJPEG cannot start", at: path)
      }
      defer { tjDestroy(decoder) }
      var (w, h, sampling, space): (Int32, Int32, Int32, Int32) = (0, 0, 0, 0)
      let status = tjDecompressHeader3(
        decoder, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt(bytes.count), &w, &h,
        &sampling, &space)
      guard status == 0, w > 0, h > 0 else { throw Self.damaged(path, Self.message(decoder)) }
      guard [TJCS_RGB, TJCS_YCbCr, TJCS_GRAY].contains(where: { Int32($0.rawValue) == space })
      else {
        throw DLCError(
          .unsupported, "the JPEG file is in printing colours (CMYK)", at: path,
          remedy: "convert it to RGB")
      }
      (height, width) = (Int(h), Int(w))
      isColoured = space != Int32(TJCS_GRAY.rawValue)
    } else {
      throw DLCError(
        .format, bytes.isEmpty ? "the file is empty" : "this is neither PNG nor JPEG", at: path)
    }
  }

  /// The pixels in rows from the top, the channels of each together.
  /// - Parameter channels: 1 (grey) or 3 (red, green, blue).
  /// - Throws: `.format` when they are damaged, `.memory` when there is not enough for them.
  package func pixels(channels: Int) throws(DLCError) -> TensorStorage {
    precondition(channels == 1 || channels == 3)
    let (row, tooWide) = width.multipliedReportingOverflow(by: channels)
    let (size, tooLarge) = row.multipliedReportingOverflow(by: height)
    guard !tooWide, !tooLarge, row <= Int(Int32.max), height <= Int(Int32.max) else {
      throw DLCError(.unsupported, "the picture is too large, \(height) x \(width)", at: path)
    }
    let storage = try TensorStorage(reserving: size, for: "the picture '\(path)'")
    let bytes = file.bytes
    switch format {
    case .png:
      var image = png_image()
      image.version = png_uint_32(PNG_IMAGE_VERSION)
      defer { png_image_free(&image) }
      guard png_image_begin_read_from_memory(&image, bytes.baseAddress, bytes.count) != 0 else {
        throw Self.damaged(path, Self.message(image))
      }
      // As stored: libpng would compute greys and transparency in linear light, which JPEG files and every
      // other reader do not.
      image.format = 3  // red, green, blue, alpha
      // 16-bit pixels without a profile are sRGB too.
      image.flags |= png_uint_32(PNG_IMAGE_FLAG_16BIT_sRGB)
      let (wide, tooMuch) = (size / channels).multipliedReportingOverflow(by: 4)
      guard !tooMuch, width <= Int(Int32.max) / 4 else {
        throw DLCError(.unsupported, "the picture is too large, \(height) x \(width)", at: path)
      }
      let full = try TensorStorage(reserving: wide, for: "the picture '\(path)'")
      guard
        Int(image.height) == height, Int(image.width) == width,
        png_image_finish_read(&image, nil, full.bytes.baseAddress, Int32(width * 4), nil) != 0
      else { throw Self.damaged(path, Self.message(image)) }
      Self.compose(full.bytes, into: storage.bytes, channels: channels)
    case .jpeg:
      guard let decoder = tjInitDecompress() else {
        throw DLCError(.memory, "TurboJPEG cannot start", at: path)
      }
      defer { tjDestroy(decoder) }
      let status = tjDecompress2(
        decoder, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt(bytes.count),
        storage.bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), Int32(width), Int32(row),
        Int32(height), Int32(channels == 3 ? TJPF_RGB.rawValue : TJPF_GRAY.rawValue),
        // Not more scans than any encoder makes: each costs as much as the picture.
        TJFLAG_LIMITSCANS)
      if status != 0 {
        let text = Self.message(decoder)
        // Bytes between segments harm nothing; any other warning is of pixels that are guessed.
        let isHarmless =
          tjGetErrorCode(decoder) == Int32(TJERR_WARNING.rawValue)
          && text.contains("extraneous bytes before marker")
        if !isHarmless { throw Self.damaged(path, text) }
      }
    }
    return storage
  }

  /// Pixels of red, green, blue and alpha over black; greys are the luma of ITU-R BT.601, as in JPEG files.
  private static func compose(
    _ pixels: UnsafeMutableRawBufferPointer, into target: UnsafeMutableRawBufferPointer,
    channels: Int
  ) {
    for index in 0..<pixels.count / 4 {
      let alpha = Int(pixels[4 * index + 3])
      func channel(_ number: Int) -> Int { (Int(pixels[4 * index + number]) * alpha + 127) / 255 }
      let (red, green, blue) = (channel(0), channel(1), channel(2))
      if channels == 1 {
        target[index] = UInt8((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16)
      } else {
        target[3 * index] = UInt8(red)
        target[3 * index + 1] = UInt8(green)
        target[3 * index + 2] = UInt8(blue)
      }
    }
  }

  private static let signature: [UInt8] = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]

  /// A PNG file is a list of chunks, each with its length in front, and the last one is `IEND`.
  private static func requireWhole(_ bytes: UnsafeRawBufferPointer, _ path: String)
    throws(DLCError)
  {
    var position = 8
    while position + 12 <= bytes.count {
      let length = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt32.self))
      let isLast = bytes[position + 4..<position + 8].elementsEqual("IEND".utf8)
      position += 12 + Int(length)
      if isLast && position <= bytes.count { return }
    }
    throw DLCError(.format, "the PNG file is cut short", at: path)
  }

  private static func damaged(_ path: String, _ reason: String) -> DLCError {
    DLCError(.format, "the picture is damaged (\(reason))", at: path)
  }

  private static func message(_ image: png_image) -> String {
    withUnsafeBytes(of: image.message) {
      String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
    }
  }

  private static func message(_ decoder: tjhandle) -> String {
    String(cString: tjGetErrorStr2(decoder))
  }
}

/// Pixels of another size, by a triangle filter that is as wide as a pixel of the smaller of both: what
/// shrinks is averaged, what grows is linear in between.
package struct Resizing {
  /// For each place, where its sum begins and how much each pixel gives.
  private let rows: [(start: Int, weights: [Float])]
  private let columns: [(start: Int, weights: [Float])]
  private let source: (height: Int, width: Int)

  package init(from source: (height: Int, width: Int), to target: (height: Int, width: Int)) {
    self.source = source
    rows = Self.weights(source.height, target.height)
    columns = Self.weights(source.width, target.width)
  }

  private static func weights(_ source: Int, _ target: Int) -> [(start: Int, weights: [Float])] {
    let scale = Double(source) / Double(target)
    let radius = max(scale, 1)
    return (0..<target).map { place in
      let centre = (Double(place) + 0.5) * scale
      let first = max(0, Int((centre - radius).rounded(.down)))
      let end = min(source, Int((centre + radius).rounded(.up)))
      let raw = (first..<end).map { max(0, 1 - abs(Double($0) + 0.5 - centre) / radius) }
      let sum = raw.reduce(0, +)
      return (first, raw.map { Float($0 / sum) })
    }
  }

  /// The pixels in the new size, from rows of pixels with their channels together.
  package func apply(_ pixels: UnsafeRawBufferPointer, channels: Int) -> [UInt8] {
    // Along rows first, then across them.
    var narrow = [Float](repeating: 0, count: source.height * columns.count * channels)
    for y in 0..<source.height {
      for (x, (start, weights)) in columns.enumerated() {
        for channel in 0..<channels {
          var sum: Float = 0
          for (offset, weight) in weights.enumerated() {
            sum +=
              weight * Float(pixels[(y * source.width + start + offset) * channels + channel])
          }
          narrow[(y * columns.count + x) * channels + channel] = sum
        }
      }
    }
    let row = columns.count * channels
    var result = [UInt8](repeating: 0, count: rows.count * row)
    for (y, (start, weights)) in rows.enumerated() {
      for x in 0..<row {
        var sum: Float = 0
        for (offset, weight) in weights.enumerated() {
          sum += weight * narrow[(start + offset) * row + x]
        }
        result[y * row + x] = UInt8(max(0, min(255, sum.rounded())))
      }
    }
    return result
  }
}
