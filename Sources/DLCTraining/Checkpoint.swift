import DLCFormats
public import DLCTensor
import Foundation

/// Where a training run stands: everything that it needs to go on.
package struct Checkpoint: Sendable {
  /// Steps taken, the epoch that is under way, and the steps of it that are done.
  package internal(set) var step: Int
  package internal(set) var epoch: Int
  package internal(set) var cursor: Int
  package internal(set) var state: [String: Tensor]
  /// Tells the run apart from every other; the same after it was resumed.
  var run: String
  /// What the run was started with.
  var description: RunDescription
  /// The best epoch so far, where the run looks for it; its state stands in the file as `best/<name>`.
  var best: Trainer.Best?

  /// What `checkpoint.json` holds.
  struct Header: Codable {
    var format: Int
    var step: Int
    var epoch: Int
    var cursor: Int
    var run: String
    var description: RunDescription
    var best: BestEpoch?
    /// Of `state.safetensors`.
    var stateDigest: String
    /// Of all the rest of the header.
    var digest: String
  }
}

extension Checkpoint {
  struct BestEpoch: Codable {
    var epoch: Int
    var value: Double
  }

  private static let bestPrefix = "best/"
}

extension Checkpoint.Header {
  private static let format = 2

  init(_ checkpoint: Checkpoint, stateDigest: String) throws(DLCError) {
    format = Self.format
    step = checkpoint.step
    epoch = checkpoint.epoch
    cursor = checkpoint.cursor
    run = checkpoint.run
    description = checkpoint.description
    best = checkpoint.best.map { Checkpoint.BestEpoch(epoch: $0.epoch, value: $0.value) }
    self.stateDigest = stateDigest
    digest = ""
    digest = Digest.hex(try encoded())
  }

  /// - Throws: `.format` when it is damaged in any way.
  init(contentsOf path: String) throws(DLCError) {
    let file = try MappedFile(path + "/checkpoint.json")
    struct Version: Codable { var format: Int }
    let data = Data(file.bytes)
    if let version = try? JSONDecoder().decode(Version.self, from: data),
      version.format != Self.format, version.format >= 1
    {
      throw DLCError(
        .format, "the checkpoint has format \(version.format), this dlc reads \(Self.format)",
        at: path)
    }
    func damaged(_ what: String) -> DLCError {
      DLCError(
        .format, "the checkpoint is damaged: \(what)", at: path + "/checkpoint.json",
        remedy: "remove the checkpoint to continue from the one before it")
    }
    do { self = try JSONDecoder().decode(Self.self, from: data) } catch {
      throw damaged("it is not the JSON of a checkpoint")
    }
    guard step >= 0, step <= Int(Int32.max), epoch >= 0, epoch <= step else {
      throw damaged("step \(step) of epoch \(epoch) cannot be")
    }
    let length = description.stepsPerEpoch
    guard cursor >= 0, cursor < length, cursor <= step else {
      throw damaged("its cursor is \(cursor) in an epoch of \(length) steps")
    }
    var bare = self
    bare.digest = ""
    guard Digest.hex(try bare.encoded()) == digest else {
      throw damaged("its digest does not match")
    }
  }

  func encoded() throws(DLCError) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
    do { return [UInt8](try encoder.encode(self)) } catch {
      throw DLCError(.file, "cannot encode a checkpoint")
    }
  }
}

extension Checkpoint {
  /// Writes both files into a directory.
  func write(to path: String) throws(DLCError) {
    var tensors = state.sorted { $0.key < $1.key }.map { (name: $0.key, value: $0.value) }
    for (name, value) in (best?.state ?? [:]).sorted(by: { $0.key < $1.key }) {
      tensors.append((Self.bestPrefix + name, value))
    }
    let bytes = Safetensors.encode(tensors)
    try OutputFile.write(bytes, to: path + "/state.safetensors")
    let header = try Header(self, stateDigest: Digest.hex(bytes))
    try OutputFile.write(try header.encoded(), to: path + "/checkpoint.json")
  }

  /// Reads one checkpoint.
  /// - Throws: `.file` when it cannot be read, `.format` when it is damaged.
  package init(
    contentsOf path: String, file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) {
    do throws(DLCError) {
      try self.init(try Header(contentsOf: path), path)
    } catch {
      throw error.called(file, line)
    }
  }

  private init(_ header: Header, _ path: String) throws(DLCError) {
    let file = path + "/state.safetensors"
    let weights = try MappedFile(file)
    guard Digest.hex(weights.bytes) == header.stateDigest else {
      throw DLCError(.format, "the checkpoint is damaged: its digest does not match", at: file)
    }
    step = header.step
    epoch = header.epoch
    cursor = header.cursor
    run = header.run
    description = header.description
    let all = Dictionary(
      try Safetensors.read(file).map { ($0.name, $0.value) }, uniquingKeysWith: { a, _ in a })
    state = all
    if let found = header.best {
      // No state of a module begins so unless it is one of the best epoch.
      let kept = all.filter { $0.key.hasPrefix(Self.bestPrefix) }
      state = all.filter { !$0.key.hasPrefix(Self.bestPrefix) }
      best = Trainer.Best(
        epoch: found.epoch, value: found.value,
        state: Dictionary(
          uniqueKeysWithValues: kept.map {
            (String($0.key.dropFirst(Self.bestPrefix.count)), $0.value)
          }))
    }
    guard state[TrainingStep.counterName]?.integers == [Int64(step)] else {
      throw DLCError(
        .format, "the checkpoint is damaged: its state is not of step \(step)", at: file)
    }
  }

  /// The newest checkpoint of a directory; nil when there is none.
  ///
  /// Where the state of the newest is damaged or missing, the one before it is taken: its own record
  /// says that it is an earlier step of the same run.
  /// - Throws: `.format` when the record of a checkpoint is damaged, or no state is whole.
  package static func latest(
    in directory: String, file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) -> Checkpoint? {
    do throws(DLCError) {
      return try newest(in: directory)?.checkpoint
    } catch {
      throw error.called(file, line)
    }
  }

  /// The same, and why a newer one was passed over.
  static func newest(in directory: String) throws(DLCError) -> (
    checkpoint: Checkpoint, skipped: DLCError?
  )? {
    var (failure, run): (DLCError?, String?)
    for (_, path) in CheckpointDirectory.checkpoints(in: directory).reversed() {
      // A damaged record does not say whose checkpoint it is: nothing is passed over for it.
      let header = try Header(contentsOf: path)
      if let run, run != header.run { break }
      run = header.run
      do throws(DLCError) { return (try Checkpoint(header, path), failure) } catch {
        failure = failure ?? error
      }
    }
    if let failure { throw failure }
    return nil
  }
}
