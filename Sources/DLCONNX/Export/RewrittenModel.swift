package import DLCFormats
package import DLCTensor

extension ONNXModel {
  /// The bytes of the model's file with other values for initialisers; those that lie in other files are in it too, and
  /// nothing else changes.
  /// - Throws: `.unsupported` for what is larger than a protobuf message can be.
  package func rewritten(_ file: MappedFile, with values: [String: Tensor]) throws(DLCError)
    -> [UInt8]
  {
    let stored = graph.initializers
    var left = values
    var failure: DLCError?
    func tensor(_ bytes: UnsafeRawBufferPointer, _ name: String) -> [UInt8]? {
      var new = left.removeValue(forKey: name)
      if new == nil, ProtobufWire.field(13, of: bytes) != nil, let old = stored[name] {
        new = old.value
        guard let new, ElementType(new.dataType) == old.elementType else {
          failure = DLCError(
            .unsupported,
            "initialiser '\(name)', of \(old.elementType.text), lies in another file",
            at: file.path)
          return nil
        }
      }
      guard let value = new else { return nil }
      let data = value.withUnsafeBytes { Array($0) }
      return ProtobufWire.withoutData(bytes).map { $0 + ProtobufWire.field(9, data) }
    }
    func string(_ bytes: UnsafeRawBufferPointer?) -> String {
      bytes.map { String(decoding: $0, as: UTF8.self) } ?? ""
    }
    func constant(_ node: UnsafeRawBufferPointer) -> [UInt8]? {
      // Exporters write weights as constants too.
      let name = string(ProtobufWire.field(2, of: node))
      guard left[name] != nil, string(ProtobufWire.field(4, of: node)) == "Constant" else {
        return nil
      }
      return ProtobufWire.replacing(5, in: node) { attribute in
        ProtobufWire.replacing(5, in: attribute) { tensor($0, name) }
      }
    }
    let made = ProtobufWire.replacing(7, in: file.bytes) { graph in
      ProtobufWire.replacing(5, in: graph) {
        tensor($0, string(ProtobufWire.field(8, of: $0)))
      }.flatMap { graph in
        graph.withUnsafeBytes { ProtobufWire.replacing(1, in: $0, constant) }
      }
    }
    if let failure { throw failure }
    if let made, made.count > Int(Int32.max) {
      throw DLCError(
        .unsupported, "the model takes \(made.count) bytes in one file, more than \(Int32.max)",
        at: file.path)
    }
    guard let made else { throw DLCError(.format, "the model is damaged", at: file.path) }
    guard left.isEmpty else {
      throw DLCError(
        .unsupported, "the model's file holds no \(Spelling.list(left.keys.sorted()))",
        at: file.path)
    }
    return made
  }
}

extension ProtobufWire {
  /// A tensor of ONNX without the fields that hold its elements.
  fileprivate static func withoutData(_ bytes: UnsafeRawBufferPointer) -> [UInt8]? {
    dropping([4, 5, 7, 9, 10, 11, 13, 14], of: bytes)
  }
}
