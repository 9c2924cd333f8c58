import CTurboJPEG
import CZlib
import DLCFormats
import DLCTensor
import Foundation
import Testing

@testable import DLCData

/// A folder that goes away with the test.
final class Folder {
  let path: String

  init() {
    path =
      FileManager.default.temporaryDirectory.appendingPathComponent("dlc-data-\(UUID().uuidString)")
      .path
    try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// Writes a file, and the folders above it.
  @discardableResult func put(_ name: String, _ bytes: [UInt8]) throws -> String {
    let url = URL(fileURLWithPath: "\(path)/\(name)")
    try FileManager.default.createDirectory(
      at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(bytes).write(to: url)
    return url.path
  }

  @discardableResult func put(_ name: String, _ text: String) throws -> String {
    try put(name, Array(text.utf8))
  }

  func arrays(_ name: String) throws -> [String: Tensor] {
    Dictionary(uniqueKeysWithValues: try Npz.read("\(path)/\(name)").map { ($0.name, $0.value) })
  }
}

/// The error of a body that has one; its text begins with the path of the test's folder nowhere.
func problem(_ body: () throws -> Void) -> String {
  do { try body() } catch let error as DLCError { return "\(error)" } catch {
    return "other: \(error)"
  }
  return "no error"
}

/// Bytes compressed by gzip.
func gzip(_ bytes: [UInt8]) -> [UInt8] {
  var stream = z_stream()
  deflateInit2_(
    &stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION,
    Int32(MemoryLayout<z_stream>.size))
  defer { deflateEnd(&stream) }
  var input = bytes
  var out = [UInt8](repeating: 0, count: bytes.count + 256)
  let count = input.withUnsafeMutableBufferPointer { input in
    out.withUnsafeMutableBufferPointer { out in
      stream.next_in = input.baseAddress
      stream.avail_in = UInt32(input.count)
      stream.next_out = out.baseAddress
      stream.avail_out = UInt32(out.count)
      deflate(&stream, Z_FINISH)
      return out.count - Int(stream.avail_out)
    }
  }
  return Array(out.prefix(count))
}

func idx(_ type: UInt8, _ shape: [Int], _ data: [UInt8]) -> [UInt8] {
  [0, 0, type, UInt8(shape.count)]
    + shape.flatMap { size in (0..<4).map { UInt8(truncatingIfNeeded: size >> (24 - 8 * $0)) } }
    + data
}

/// A JPEG file, from rows of pixels.
func jpeg(_ pixels: [UInt8], height: Int, width: Int, channels: Int) -> [UInt8] {
  let encoder = tjInitCompress()
  defer { tjDestroy(encoder) }
  var buffer: UnsafeMutablePointer<UInt8>?
  var size: UInt = 0
  let isGrey = channels == 1
  let status = tjCompress2(
    encoder, pixels, Int32(width), 0, Int32(height),
    Int32((isGrey ? TJPF_GRAY : TJPF_RGB).rawValue), &buffer, &size,
    Int32((isGrey ? TJSAMP_GRAY : TJSAMP_444).rawValue), 100, 0)
  defer { tjFree(buffer) }
  return status == 0 ? Array(UnsafeBufferPointer(start: buffer, count: Int(size))) : []
}

/// A PNG file, from an image of bytes `[height, width]` or `[3, height, width]`, without a grid's lines.
func png(_ shape: [Int], _ pixels: [UInt8]) throws -> [UInt8] {
  let height = shape[shape.count - 2]
  let width = shape[shape.count - 1]
  let image = Tensor(
    .uint8, shape.count == 2 ? [1, 1] + shape : [1] + shape, truncating: pixels.map { Int64($0) })
  let grid = try Picture(image)
  #expect(grid.height == height + 2 && grid.width == width + 2)
  return try grid.cropped(1..<height + 1, 1..<width + 1).png()
}
