import CPNG
import DLCFormats
public import DLCTensor

/// A picture: pixels of 8 bits for each channel, grey or red, green and blue.
public struct Picture: Hashable, Sendable {
  /// Rows of pixels.
  public let height: Int
  /// Pixels in a row.
  public let width: Int
  /// 1 (grey) or 3 (red, green, blue).
  public let channels: Int
  /// In rows from the top, the channels of a pixel together.
  public private(set) var pixels: [UInt8]

  /// The brightness of the lines between the images of a grid.
  package static let gap: UInt8 = 89

  private init(height: Int, width: Int, channels: Int, filledWith value: UInt8) {
    (self.height, self.width, self.channels) = (height, width, channels)
    pixels = [UInt8](repeating: value, count: height * width * channels)
  }

  /// Images in a grid, row by row, with a line of one pixel around and between them.
  ///
  /// ```swift
  /// let picture = try Picture(samples, height: 28, width: 28, zoom: 2)
  /// try picture.write("samples.png")
  /// ```
  ///
  /// - Parameters:
  ///   - images: `[n, height, width]`, `[n, channels, height, width]`, or flat with the sizes given,
  ///     `[n, height * width * channels]` with the channels of a pixel together. Floating-point elements
  ///     are moved into 0...1, NaN is black; uint8 ones are 0...255.
  ///   - height: of one image, for flat ones.
  ///   - width: of one image, for flat ones.
  ///   - columns: images in a row; without it about as many as there are rows.
  ///   - zoom: how many pixels a pixel of an image is wide and high.
  /// - Throws: `.type` when the array is none of these or has no image.
  public init(
    _ images: Tensor, height: Int? = nil, width: Int? = nil, columns: Int? = nil, zoom: Int = 1,
    file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) {
    do throws(DLCError) {
      try self.init(Grid(images, height, width), columns, zoom)
    } catch {
      throw error.called(file, line)
    }
  }

  /// The images of an array and where their elements stand.
  private struct Grid {
    var images: Tensor
    var count: Int
    var height: Int
    var width: Int
    var channels: Int
    /// From a pixel to the next, and from a channel to the next.
    var strides: (pixel: Int, channel: Int)

    init(_ images: Tensor, _ height: Int?, _ width: Int?) throws(DLCError) {
      try images.check()
      self.images = images
      func bad(_ remedy: String) -> DLCError {
        DLCError(.type, "\(images.type) is no array of images", remedy: remedy)
      }
      guard images.dataType.isFloat || images.dataType == .uint8 else {
        throw bad("elements are floating-point numbers in 0...1, or uint8")
      }
      let shape = images.shape
      switch shape.count {
      case 2:
        guard let height, let width, height > 0, width > 0 else {
          throw bad("images in rows need a height and a width")
        }
        let (area, overflow) = height.multipliedReportingOverflow(by: width)
        guard !overflow, shape[1] == area || shape[1] % 3 == 0 && shape[1] / 3 == area else {
          throw bad("a row has height x width elements, or three times as many")
        }
        (self.height, self.width, channels) = (height, width, shape[1] / area)
        strides = (channels, 1)
      case 3:
        (self.height, self.width, channels, strides) = (shape[1], shape[2], 1, (1, 0))
      case 4:
        guard shape[1] == 1 || shape[1] == 3 else { throw bad("images have 1 or 3 channels") }
        (self.height, self.width, channels) = (shape[2], shape[3], shape[1])
        strides = (1, shape[2] * shape[3])
      default: throw bad("it has two, three or four axes")
      }
      if shape.count > 2, let height, height != self.height { throw bad("the height is another") }
      if shape.count > 2, let width, width != self.width { throw bad("the width is another") }
      count = shape[0]
      guard images.count > 0 else { throw bad("there is none") }
    }

    func draw(_ body: (_ image: Int, _ y: Int, _ x: Int, _ channel: Int, UInt8) -> Void) {
      images.withUnsafeBytes { bytes in
        func value(_ index: Int) -> UInt8 {
          let number: Float
          switch images.dataType {
          case .uint8: return bytes[index]
          case .float32: number = bytes.loadUnaligned(fromByteOffset: 4 * index, as: Float.self)
          case .float64:
            number = Float(bytes.loadUnaligned(fromByteOffset: 8 * index, as: Double.self))
          case .float16:
            number = Float(
              float16Bits: bytes.loadUnaligned(fromByteOffset: 2 * index, as: UInt16.self))
          default:
            number = Float(
              bfloat16Bits: bytes.loadUnaligned(fromByteOffset: 2 * index, as: UInt16.self))
          }
          return number > 0 ? UInt8((min(number, 1) * 255).rounded()) : 0
        }
        for image in 0..<count {
          for y in 0..<height {
            for x in 0..<width {
              for channel in 0..<channels {
                let index =
                  image * height * width * channels + (y * width + x) * strides.pixel
                  + channel * strides.channel
                body(image, y, x, channel, value(index))
              }
            }
          }
        }
      }
    }
  }

  private init(_ grid: Grid, _ columns: Int?, _ zoom: Int) throws(DLCError) {
    guard zoom >= 1, zoom <= 1024, columns.map({ $0 >= 1 }) ?? true else {
      throw DLCError(.usage, "a grid has at least one column, and a zoom of 1 to 1024")
    }
    let even = Int(Double(grid.count).squareRoot().rounded(.up))
    let columns = min(columns ?? even, grid.count)
    let rows = (grid.count - 1) / columns + 1
    let (y, tall) = rows.multipliedReportingOverflow(by: grid.height + 1)
    let (x, wide) = columns.multipliedReportingOverflow(by: grid.width + 1)
    let limit = 1 << 20
    guard !tall, !wide, y < limit / zoom, x < limit / zoom else {
      throw DLCError(
        .unsupported,
        "a grid of \(rows) x \(columns) images of \(grid.height)x\(grid.width) is too large")
    }
    let (height, width) = ((y + 1) * zoom, (x + 1) * zoom)
    try AvailableMemory.require(height * width * grid.channels, for: "the picture")
    self.init(
      height: height, width: width, channels: grid.channels, filledWith: Self.gap)
    pixels.withUnsafeMutableBufferPointer { pixels in
      grid.draw { image, y, x, channel, value in
        let top = (image / columns * (grid.height + 1) + 1 + y) * zoom
        let left = (image % columns * (grid.width + 1) + 1 + x) * zoom
        for row in top..<top + zoom {
          for column in left..<left + zoom {
            pixels[(row * width + column) * grid.channels + channel] = value
          }
        }
      }
    }
  }

  /// How many images of a width stand side by side in so many characters of a terminal; at least one.
  package static func columns(ofWidth width: Int, within characters: Int) -> Int {
    max(1, (characters - 1) / (max(width, 1) + 1))
  }

  /// A part of the picture, of rows and columns that it has.
  package func cropped(_ rows: Range<Int>, _ columns: Range<Int>) -> Picture {
    precondition(rows.upperBound <= height && columns.upperBound <= width)
    var part = Picture(
      height: rows.count, width: columns.count, channels: channels, filledWith: 0)
    part.pixels = rows.flatMap { row in
      pixels[
        (row * width + columns.lowerBound) * channels..<(row * width + columns.upperBound)
          * channels]
    }
    return part
  }

  // MARK: Files

  /// Reads a PNG or JPEG file.
  /// - Throws: `.file` when it cannot be read, `.format` when it is no such file, damaged or cut short.
  public init(reading path: String, file: StaticString = #fileID, line: UInt = #line)
    throws(DLCError)
  {
    do throws(DLCError) {
      let image = try ImageFile(path)
      let channels = image.isColoured ? 3 : 1
      let storage = try image.pixels(channels: channels)
      self.init(height: image.height, width: image.width, channels: channels, filledWith: 0)
      withExtendedLifetime(storage) { pixels = [UInt8](storage.bytes) }
    } catch {
      throw error.called(file, line)
    }
  }

  /// The picture as a PNG file's bytes.
  public func png() throws(DLCError) -> [UInt8] {
    var image = png_image()
    image.version = png_uint_32(PNG_IMAGE_VERSION)
    image.width = png_uint_32(width)
    image.height = png_uint_32(height)
    image.format = channels == 3 ? 2 : 0
    defer { png_image_free(&image) }
    func failure() -> DLCError {
      let text = withUnsafeBytes(of: image.message) {
        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
      }
      return DLCError(.execution, "libpng cannot write the picture (\(text))")
    }
    // Without a limit that is known beforehand: first the size, then the bytes.
    var size: png_alloc_size_t = 0
    guard
      png_image_write_to_memory(&image, nil, &size, 0, pixels, Int32(width * channels), nil) != 0
    else { throw failure() }
    var bytes = [UInt8](repeating: 0, count: Int(size))
    guard
      png_image_write_to_memory(&image, &bytes, &size, 0, pixels, Int32(width * channels), nil) != 0
    else { throw failure() }
    return Array(bytes.prefix(Int(size)))
  }

  /// Writes a PNG file; a regular file is replaced as a whole, and `-` is standard output.
  /// - Throws: `.file` when it cannot be written.
  public func write(_ path: String, file: StaticString = #fileID, line: UInt = #line)
    throws(DLCError)
  {
    do throws(DLCError) { try OutputFile.write(try png(), to: path) } catch {
      throw error.called(file, line)
    }
  }

  // MARK: Terminals

  /// Which colours a terminal shows.
  public enum Palette: Sendable {
    /// 24 bits.
    case full
    /// The 24 greys, black and white of 256 colours.
    case greys
  }

  /// The picture as lines for a terminal, two rows of pixels in a line of half blocks.
  /// - Parameters:
  ///   - characters: the width of the terminal; a wider picture is shrunk.
  ///   - palette: what the terminal shows.
  public func text(within characters: Int = 80, palette: Palette = .full) -> String {
    var picture = self
    if width > max(characters, 1) {
      let narrow = max(characters, 1)
      picture = resized(max(1, (height * narrow + width / 2) / width), narrow)
    }
    var text = ""
    for y in stride(from: 0, to: picture.height, by: 2) {
      var (upper, lower) = ("", "")
      for x in 0..<picture.width {
        let top = "38;" + picture.colour(y, x, palette)
        let bottom = y + 1 < picture.height ? "48;" + picture.colour(y + 1, x, palette) : "49"
        // Only what changes is said.
        let codes = [top == upper ? nil : top, bottom == lower ? nil : bottom].compactMap { $0 }
        if !codes.isEmpty { text += "\u{1B}[\(codes.joined(separator: ";"))m" }
        text += "▀"
        (upper, lower) = (top, bottom)
      }
      text += "\u{1B}[0m\n"
    }
    return text
  }

  private func colour(_ y: Int, _ x: Int, _ palette: Palette) -> String {
    let start = (y * width + x) * channels
    let (red, green, blue) =
      channels == 1
      ? (pixels[start], pixels[start], pixels[start])
      : (pixels[start], pixels[start + 1], pixels[start + 2])
    if palette == .full { return "2;\(red);\(green);\(blue)" }
    // Luma of ITU-R BT.601; the greys are 8, 18, ... 238 at 232...255, black is 16 and white 231.
    let luma = (299 * Int(red) + 587 * Int(green) + 114 * Int(blue)) / 1000
    return luma < 4 ? "5;16" : luma > 246 ? "5;231" : "5;\(232 + min(23, max(0, (luma - 3) / 10)))"
  }

  private func resized(_ height: Int, _ width: Int) -> Picture {
    var result = Picture(height: height, width: width, channels: channels, filledWith: 0)
    result.pixels = pixels.withUnsafeBytes {
      Resizing(from: (self.height, self.width), to: (height, width)).apply($0, channels: channels)
    }
    return result
  }
}
