import DLCFormats
package import DLCTensor

/// Rows that are made one after the other and written to npz files, so that only one block of them is in
/// memory at a time.
package struct Dataset {
  /// An array with one element, or one array of elements, for each row.
  package struct Column {
    package var name: String
    package var type: DataType
    /// Of one row.
    package var shape: [Int]
    /// Writes the elements of a row.
    package var read: (_ row: Int, _ target: UnsafeMutableRawBufferPointer) throws(DLCError) -> Void

    package init(
      _ name: String, _ type: DataType, _ shape: [Int],
      _ read: @escaping (Int, UnsafeMutableRawBufferPointer) throws(DLCError) -> Void
    ) {
      (self.name, self.type, self.shape, self.read) = (name, type, shape, read)
    }

    /// The rows of an array, divided by a number as float32 where one is given: a row's elements in
    /// their order, in another shape where one is given.
    package init(
      _ name: String, rowsOf array: Tensor, as shape: [Int]? = nil, dividedBy divisor: Float? = nil
    ) {
      let shape = shape ?? Array(array.shape.dropFirst())
      let count = shape.reduce(1, *)
      guard let divisor else {
        self.init(name, array.dataType, shape) { (row, target) throws(DLCError) in
          array.withUnsafeBytes {
            let start = row * target.count
            target.copyMemory(
              from: UnsafeRawBufferPointer(rebasing: $0[start..<start + target.count]))
          }
        }
        return
      }
      self.init(name, .float32, shape) { (row, target) throws(DLCError) in
        if array.dataType == .uint8 {
          array.withUnsafeBytes { source in
            for index in 0..<count {
              target.storeBytes(
                of: Float(source[row * count + index]) / divisor, toByteOffset: 4 * index,
                as: Float.self)
            }
          }
          return
        }
        for (index, value) in array.slice(row * count, count).doubles.enumerated() {
          target.storeBytes(
            of: Float(value) / divisor, toByteOffset: 4 * index, as: Float.self)
        }
      }
    }
  }

  /// What was written, for the user to be told.
  package struct File: Hashable, Sendable {
    package var path: String
    package var arrays: [(name: String, type: TensorType)]

    package static func == (a: File, b: File) -> Bool {
      a.path == b.path && a.arrays.map(\.name) == b.arrays.map(\.name)
        && a.arrays.map(\.type) == b.arrays.map(\.type)
    }

    package func hash(into hasher: inout Hasher) { hasher.combine(path) }
  }

  package var count: Int
  package var columns: [Column]
  /// Arrays that belong to every row, such as names of classes; each file has them.
  package var constants: [(name: String, value: Tensor)]

  package init(
    count: Int, columns: [Column], constants: [(name: String, value: Tensor)] = []
  ) {
    (self.count, self.columns, self.constants) = (count, columns, constants)
  }

  /// The names of the files: NAME.npz, or NAME_train.npz and NAME_test.npz; a suffix .npz that NAME has
  /// is taken off.
  package static func paths(_ name: String) -> (whole: String, train: String, test: String) {
    let stem = name.hasSuffix(".npz") ? String(name.dropLast(4)) : name
    return ("\(stem).npz", "\(stem)_train.npz", "\(stem)_test.npz")
  }

  /// Writes the parts. Each file is put in its place when all are whole.
  /// - Parameter test: rows to test on from another source, in place of a split.
  /// - Throws: `.usage` when a part would be empty, `.file` when a file cannot be written, and what
  ///   reading a row throws.
  package func write(_ name: String, _ split: Split, test: Dataset? = nil) throws(DLCError)
    -> [File]
  {
    let paths = Self.paths(name)
    var files: [(dataset: Dataset, rows: [Range<Int>], path: String)]
    if let test {
      files = [(self, [0..<count], paths.train), (test, [0..<test.count], paths.test)]
    } else if let (train, held) = try split.parts(of: count, "rows") {
      files = [(self, train, paths.train), (self, held, paths.test)]
    } else {
      files = [(self, [0..<count], paths.whole)]
    }
    var written: [File] = []
    var writers: [NpzWriter] = []
    for (dataset, rows, path) in files {
      let writer = try NpzWriter(path)
      written.append(
        File(path: path, arrays: try dataset.write(rows, to: writer)))
      writers.append(writer)
    }
    for writer in writers { try writer.commit() }
    return written
  }

  private func write(_ rows: [Range<Int>], to writer: NpzWriter) throws(DLCError) -> [(
    name: String, type: TensorType
  )] {
    let total = rows.reduce(0) { $0 + $1.count }
    var arrays: [(name: String, type: TensorType)] = []
    for column in columns {
      let shape = [total] + column.shape
      try writer.begin(column.name, column.type, shape)
      arrays.append((column.name, TensorType(column.type, sizes: shape)))
      let width = column.shape.reduce(column.type.byteCount, *)
      guard width > 0, total > 0 else { continue }
      // A block of rows of about a mebibyte.
      let block = max(1, (1 << 20) / width)
      let storage = try TensorStorage(
        reserving: min(block, total) * width, for: "rows of '\(column.name)'")
      var filled = 0
      func flush() throws(DLCError) {
        try writer.write(UnsafeRawBufferPointer(rebasing: storage.bytes[..<(filled * width)]))
        filled = 0
      }
      for range in rows {
        for row in range {
          let start = filled * width
          try column.read(
            row, UnsafeMutableRawBufferPointer(rebasing: storage.bytes[start..<start + width]))
          filled += 1
          if filled == min(block, total) { try flush() }
        }
      }
      try flush()
    }
    for (name, value) in constants {
      try writer.add(name, value)
      arrays.append((name, value.type))
    }
    return arrays
  }
}
