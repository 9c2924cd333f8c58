import DLCFormats
public import DLCTensor
import Foundation

/// Where a training run stands: everything that it needs to go on.
public struct Checkpoint: Sendable {
  /// Steps taken, the epoch that is under way, and the steps of it that are done.
  public var step: Int
  public var epoch: Int
  public var cursor: Int
  public var seed: UInt64
  /// What the run was started with; another run does not fit.
  public var fingerprint: String
  public var state: [String: Tensor]

  fileprivate struct Header: Codable {
    var format: Int
    var step: Int
    var epoch: Int
    var cursor: Int
    var seed: UInt64
    var fingerprint: String
    var digest: String
  }

  /// Writes `directory/step-N`: to a temporary name, synced, renamed; then drops all but the last `keep`.
  /// - Throws: `.file` when that cannot be done; what was there before is then whole.
  public func write(to directory: String, keep: Int = 3) throws(DLCError) {
    let files = FileManager.default
    let digits = String(step)
    let name = "step-" + String(repeating: "0", count: max(0, 9 - digits.count)) + digits
    let temporary = "\(directory)/.\(name).\(ProcessInfo.processInfo.processIdentifier)"
    let final = "\(directory)/\(name)"
    do {
      try files.createDirectory(atPath: temporary, withIntermediateDirectories: true)
    } catch {
      throw DLCError(.file, "cannot create a checkpoint", at: directory)
    }
    defer { try? files.removeItem(atPath: temporary) }
    let tensors = state.sorted { $0.key < $1.key }.map { (name: $0.key, value: $0.value) }
    let bytes = Safetensors.encode(tensors)
    try MappedFile.write(bytes, to: temporary + "/state.safetensors")
    let header = Header(
      format: 1, step: step, epoch: epoch, cursor: cursor, seed: seed, fingerprint: fingerprint,
      digest: SHA256.hex(bytes))
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
    guard let json = try? encoder.encode(header) else {
      throw DLCError(.file, "cannot encode a checkpoint", at: directory)
    }
    try MappedFile.write([UInt8](json), to: temporary + "/checkpoint.json")
    do {
      if files.fileExists(atPath: final) { try files.removeItem(atPath: final) }
      try files.moveItem(atPath: temporary, toPath: final)
    } catch {
      throw DLCError(.file, "cannot put a checkpoint in its place", at: final)
    }
    let old = Self.names(directory).dropLast(max(1, keep))
    for name in old { try? files.removeItem(atPath: "\(directory)/\(name)") }
  }

  private static func names(_ directory: String) -> [String] {
    let all = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
    return all.filter { $0.hasPrefix("step-") }.sorted()
  }

  /// The newest checkpoint that is whole; nil when there is none.
  public static func latest(in directory: String) throws(DLCError) -> Checkpoint? {
    var failure: DLCError?
    for name in names(directory).reversed() {
      do throws(DLCError) { return try Checkpoint(contentsOf: "\(directory)/\(name)") } catch {
        failure = failure ?? error
      }
    }
    if let failure { throw failure }
    return nil
  }
}

extension Checkpoint {
  /// Reads one checkpoint.
  public init(contentsOf path: String) throws(DLCError) {
    let file = try MappedFile(path + "/checkpoint.json")
    guard let header = try? JSONDecoder().decode(Header.self, from: Data(file.bytes)),
      header.format == 1, header.step >= 0, header.epoch >= 0, header.cursor >= 0
    else { throw DLCError(.format, "this is no checkpoint of dlc", at: path) }
    let weights = try MappedFile(path + "/state.safetensors")
    guard SHA256.hex(Array(weights.bytes)) == header.digest else {
      throw DLCError(.format, "the checkpoint is damaged: its digest does not match", at: path)
    }
    step = header.step
    epoch = header.epoch
    cursor = header.cursor
    seed = header.seed
    fingerprint = header.fingerprint
    state = Dictionary(
      try Safetensors.read(path + "/state.safetensors").map { ($0.name, $0.value) },
      uniquingKeysWith: { a, _ in a })
  }
}
