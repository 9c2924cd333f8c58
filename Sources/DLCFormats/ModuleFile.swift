import CProtobufSchema
public import DLCGraph
public import DLCTensor

/// Model files: a protobuf message, with large weights in a safetensors file beside it.
public enum ModuleFile {
  /// The schema that this dlc writes, and the newest that it reads.
  package static let schemaVersion: UInt32 = 1
  package static let producer = "dlc 0.1.0"
  /// Values up to this size stand in the model file itself.
  static let inlineLimit = 16 << 10

  // MARK: Writing

  /// Saves a module; large values go to a file beside it. The two change together: the values are
  /// written under a name that the old model file does not use, then the model file takes its place,
  /// and the values of the old one go. A crash in between leaves the old pair or the new one.
  ///
  /// The file of values is `NAME.safetensors`, or `NAME.DIGEST.safetensors` where that name is taken by
  /// other values. What cannot have a file beside it (`-`, a device, a pipe) holds all values itself.
  public static func write(
    _ module: Module, to path: String, file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) {
    do throws(DLCError) {
      try module.verifyRecipe()
      guard let target = try OutputFile.replaceable(path) else {
        try OutputFile.write(encode(module), to: path)
        return
      }
      let large = module.states.filter { ($0.value?.byteCount ?? 0) > inlineLimit }
        .map { (name: $0.name, value: $0.value!) }
      let (directory, file) = split(target)
      let stem = file.hasSuffix(".pb") ? String(file.dropLast(3)) : file
      let old = weightsName(of: target)
      var weights = ""
      if !large.isEmpty {
        let digest = Digest()
        Safetensors.encode(large) { digest.update($0) }
        let name = digest.hex
        weights = stem + ".safetensors"
        if let present = try? MappedFile(directory + weights), Digest.hex(present.bytes) != name {
          weights = "\(stem).\(name.prefix(16)).safetensors"
        }
        try Safetensors.write(large, to: directory + weights)
      }
      try OutputFile.write(encode(module, weights: weights), to: target)
      if let old, old != weights, old.hasPrefix(stem + "."), old.hasSuffix(".safetensors") {
        try OutputFile.remove(directory + old)
      }
    } catch {
      throw error.called(file, line)
    }
  }

  /// Saves a module with all its values in one file.
  /// - Throws: `.unsupported` when it is too large for one protobuf message (2 GiB).
  public static func writeWhole(
    _ module: Module, to path: String, file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) {
    do throws(DLCError) {
      try module.verifyRecipe()
      let bytes = module.states.reduce(0) { $0 + ($1.value?.byteCount ?? 0) }
      guard bytes < 2_000_000_000 else {
        throw DLCError(
          .unsupported, "\(bytes) bytes of values are too many for one file", at: path,
          remedy: "save the model with a file of values beside it")
      }
      let old = try OutputFile.replaceable(path) == nil ? nil : weightsName(of: path)
      try OutputFile.write(encode(module), to: path)
      let (directory, file) = split(path)
      let stem = file.hasSuffix(".pb") ? String(file.dropLast(3)) : file
      if let old, old.hasPrefix(stem + "."), old.hasSuffix(".safetensors") {
        try OutputFile.remove(directory + old)
      }
    } catch {
      throw error.called(file, line)
    }
  }

  /// A path as a directory, with its slash, and a name.
  private static func split(_ path: String) -> (directory: String, file: String) {
    let start = path.lastIndex(of: "/").map { path.index(after: $0) } ?? path.startIndex
    return (String(path[..<start]), String(path[start...]))
  }

  /// The file of values that a model file names, if there is such a file.
  private static func weightsName(of path: String) -> String? {
    guard let file = try? MappedFile(path) else { return nil }
    let name = try? ProtobufDecoding.decode(
      file.bytes, dlc_module_descriptor(), as: Dlc__Module.self, path: path
    ) { (message) throws(DLCError) in text(message.weights_file) }
    return name.flatMap { isPlain($0) ? $0 : nil }
  }

  /// Whether a name means a file in the same directory.
  private static func isPlain(_ name: String) -> Bool {
    !name.isEmpty && !name.contains("/") && name != ".." && name != "." && !name.contains("\0")
  }

  // MARK: Reading

  /// Reads and verifies a model file and the weights that it names.
  /// - Throws: `.file`, `.format`, `.unsupported` or `.graph`, with what is wrong and where.
  public static func read(
    _ path: String, file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) -> Module {
    do throws(DLCError) {
      let file = try MappedFile(path)
      return try decode(file.bytes, path: path)
    } catch {
      throw error.called(file, line)
    }
  }

  package static func decode(_ bytes: UnsafeRawBufferPointer, path: String) throws(DLCError)
    -> Module
  {
    let (decoded, weights, external) = try ProtobufDecoding.decode(
      bytes, dlc_module_descriptor(), as: Dlc__Module.self, path: path
    ) { (message) throws(DLCError) in
      do throws(DLCError) {
        return try decode(message)
      } catch { throw error.within(path) }
    }
    var result = decoded
    if !external.isEmpty {
      guard isPlain(weights) else {
        throw DLCError(
          .format, "the weights file '\(weights.prefix(64))' is not a plain file name", at: path)
      }
      // Beside the path, or beside what a link leads to.
      var sibling = split(path).directory + weights
      if !MappedFile.exists(sibling) {
        sibling = split(try OutputFile.followLinks(path)).directory + weights
      }
      let values = Dictionary(
        try Safetensors.read(sibling).map { ($0.name, $0.value) }, uniquingKeysWith: { a, _ in a })
      for name in external {
        guard let value = values[name] else {
          throw DLCError(.format, "'\(weights)' holds no value for '\(name)'", at: path)
        }
        do throws(DLCError) { try result.setValue(value, of: name) } catch {
          throw error.within(sibling)
        }
      }
    }
    do throws(DLCError) {
      try result.verify()
      try result.verifyRecipe()
    } catch {
      throw error.within(path)
    }
    return result
  }
}

extension Module {
  /// Saves the module as a model file, with large values in a safetensors file beside it (see `ModuleFile.write`).
  ///
  /// ```swift
  /// try module.save("model.pb")
  /// let same = try Module(contentsOf: "model.pb")
  /// ```
  public func save(
    _ path: String, file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) {
    do throws(DLCError) {
      try ModuleFile.write(self, to: path)
    } catch {
      throw error.called(file, line)
    }
  }

  /// Reads and verifies a model file.
  public init(
    contentsOf path: String, file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) {
    do throws(DLCError) {
      self = try ModuleFile.read(path)
    } catch {
      throw error.called(file, line)
    }
  }
}
