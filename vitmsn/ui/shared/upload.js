// Upload a file: `told` gets its progress. Gives the request, and a promise of the file's path on the server; Gradio's
// `upload` tells no progress.
window.msnUpload = (file, told) => {
  const request = new XMLHttpRequest(), form = new FormData(), { root, api_prefix } = window.gradio_config;
  form.append("files", file);
  request.upload.addEventListener("progress", told);
  const sent = new Promise((resolve, reject) => {
    request.addEventListener("load", () => {
      if (request.status === 200) resolve(request.response[0]);
      else reject(Error(`HTTP ${request.status}`));
    });
    for (const kind of ["error", "abort", "timeout"]) request.addEventListener(kind, () => reject(Error(kind)));
  });
  request.responseType = "json";
  request.open("POST", `${root}${api_prefix}/upload`);
  request.send(form);
  return { sent, request };
};
